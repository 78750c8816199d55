"""Answer questions from documents with LangChain, on vexfs_chroma.

`langchain-chroma` is used as it is: it is given our client, or makes its own after `install()`.
The answer is extracted: the sentences of the retrieved documents that are nearest to the question.
With a language model, only the last step of the chain would change.  Documents are retrieved by
meaning, and by `hybrid_search()`, which fuses that with the words of the question.

    pip install '.[examples,rag]'
    python examples/05_langchain_rag.py "how do I add a breakpoint"
"""

from __future__ import annotations

from typing import Any

from langchain_chroma import Chroma
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import (
    Runnable,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from shared import arguments, best_sentences, console, read_texts, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb
from vexfs_chroma import Bm25, K, Knn, Rrf, Search

FOUND = 4
QUESTIONS = [
    "What is a semaphore?",
    "What happens when a task is cancelled?",
    "Where does an item go in a sorted list?",
]


class LocalEmbeddings(Embeddings):
    """Our embedding function, under the names that LangChain calls."""

    def __init__(self, embedding: TextEmbedding) -> None:
        self.embedding = embedding

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [vector.tolist() for vector in self.embedding(texts)]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def by_meaning(store: Chroma) -> Runnable[str, list[Document]]:
    return store.as_retriever(search_kwargs={"k": FOUND, "filter": {"kind": {"$ne": "module"}}})


def by_meaning_and_words(store: Chroma) -> Runnable[str, list[Document]]:
    """What of the two best fifty is best in both."""

    def search(question: str) -> list[Document]:
        each: dict[str, Any] = {"limit": 50, "return_rank": True, "default": 1000.0}
        vector = store.embeddings.embed_query(question)
        fused = Rrf([Knn(vector, **each), Bm25(question, **each)])
        chosen = Search(where=K("kind") != "module", rank=fused, limit=FOUND)
        return store.hybrid_search(chosen.select(K.DOCUMENT, K.METADATA))

    return RunnableLambda(search)


def question_chain(
    store: Chroma, retriever: Runnable[str, list[Document]]
) -> Runnable[str, dict[str, Any]]:
    """A question in; the question, the documents and the answer out."""

    def answer(found: dict[str, Any]) -> str:
        texts = [document.page_content for document in found["documents"]]
        return best_sentences(found["question"], texts, store.embeddings.embed_documents)

    found = RunnableParallel(question=RunnablePassthrough(), documents=retriever)
    return found.assign(answer=answer)


def show(result: dict[str, Any]) -> None:
    sources = ", ".join(document.metadata["name"] for document in result["documents"])
    console.print(f"\n[bold]{result['question']}[/]\n{result['answer']}")
    console.print(f"[dim]from {sources}", highlight=False)


def main() -> None:
    parser = arguments(__doc__, "build/langchain_rag", limit=2000)
    parser.add_argument("question", nargs="*", help="your own question")
    options = parser.parse_args()
    questions = [" ".join(options.question)] if options.question else QUESTIONS
    database = options.path / "database"
    start_over(database)
    ids, texts, metadatas = read_texts(options.limit)
    with timed("fit the embedding"), console.status("Fitting"):
        embeddings = LocalEmbeddings(TextEmbedding.fit(texts, options.path / "embedding.npz"))

    cosine = {"hnsw": {"space": "cosine"}}
    with chromadb.PersistentClient(path=database) as client:
        store = Chroma("library", embeddings, client=client, collection_configuration=cosine)
        documents = [
            Document(id=id, page_content=text, metadata=about)
            for id, text, about in zip(ids, texts, metadatas, strict=True)
        ]
        with timed("embed and store", len(ids)), console.status("Storing"):
            store.add_documents(documents)
        for question in questions:
            show(question_chain(store, by_meaning(store)).invoke(question))
        console.print("\n[bold]By meaning and words, fused")
        for question in questions:
            show(question_chain(store, by_meaning_and_words(store)).invoke(question))

    # Code that makes its client by itself, through `import chromadb`, opens the same database.
    chromadb.install()
    store = Chroma("library", embeddings, persist_directory=str(database))
    mixed = store.max_marginal_relevance_search(questions[0], k=3, lambda_mult=0.8)
    console.print("\n[bold]After install(), three documents that differ from each other")
    for document in mixed:
        console.print(f"  {document.metadata['name']}", highlight=False)


if __name__ == "__main__":
    main()

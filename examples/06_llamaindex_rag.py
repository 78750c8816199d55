"""Answer questions from documents with LlamaIndex, on vexfs_chroma.

`llama-index-vector-stores-chroma` is used as it is, on a collection of ours.  The answer is
extracted: the sentences of the retrieved nodes that are nearest to the question.  With a language
model, `index.as_query_engine(llm=...)` would take the place of the query engine here.

    pip install '.[examples,rag]'
    python examples/06_llamaindex_rag.py "how do I add a breakpoint"
"""

from __future__ import annotations

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.response.schema import Response
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.chroma import ChromaVectorStore
from shared import arguments, best_sentences, console, read_texts, start_over, timed
from text_embedding import TextEmbedding

import vexfs_chroma as chromadb

QUESTIONS = [
    "What is a semaphore?",
    "What happens when a task is cancelled?",
    "Where does an item go in a sorted list?",
]
NO_MODULES = MetadataFilters(
    filters=[MetadataFilter(key="kind", operator=FilterOperator.NE, value="module")]
)


class LocalEmbedding(BaseEmbedding):
    """Our embedding function, under the names that LlamaIndex calls."""

    embedding: TextEmbedding

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [vector.tolist() for vector in self.embedding(texts)]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


class Extraction(CustomQueryEngine):
    """Retrieves nodes and answers with the best of their sentences."""

    retriever: BaseRetriever
    embedding: TextEmbedding

    def custom_query(self, query_str: str) -> Response:
        found = self.retriever.retrieve(query_str)
        texts = [node.get_content(MetadataMode.NONE) for node in found]
        return Response(best_sentences(query_str, texts, self.embedding), source_nodes=found)


def show(question: str, response: Response) -> None:
    sources = ", ".join(node.metadata["name"] for node in response.source_nodes)
    console.print(f"\n[bold]{question}[/]\n{response}")
    console.print(f"[dim]from {sources}", highlight=False)


def main() -> None:
    parser = arguments(__doc__, "build/llamaindex_rag", limit=2000)
    parser.add_argument("question", nargs="*", help="your own question")
    options = parser.parse_args()
    database = options.path / "database"
    start_over(database)
    ids, texts, metadatas = read_texts(options.limit)
    with timed("fit the embedding"), console.status("Fitting"):
        embedding = TextEmbedding.fit(texts, options.path / "embedding.npz")
    model = LocalEmbedding(embedding=embedding, embed_batch_size=500)

    with chromadb.PersistentClient(path=database) as client:
        # Only the text is embedded, as the questions are; the metadata is there for filters.
        hidden = {"excluded_embed_metadata_keys": list(metadatas[0])}
        nodes = [
            TextNode(id_=id, text=text, metadata=about, **hidden)
            for id, text, about in zip(ids, texts, metadatas, strict=True)
        ]
        store = ChromaVectorStore(client.create_collection("library", embedding_function=embedding))
        with timed("embed and store", len(ids)), console.status("Storing"):
            storage = StorageContext.from_defaults(vector_store=store)
            VectorStoreIndex(nodes, storage_context=storage, embed_model=model)

    # Everything is on disk.  A later program needs the collection only.
    with chromadb.PersistentClient(path=database) as client:
        store = ChromaVectorStore(client.get_collection("library"))
        index = VectorStoreIndex.from_vector_store(store, embed_model=model)
        retriever = index.as_retriever(similarity_top_k=4, filters=NO_MODULES)
        engine = Extraction(retriever=retriever, embedding=embedding)
        for question in [" ".join(options.question)] if options.question else QUESTIONS:
            show(question, engine.query(question))


if __name__ == "__main__":
    main()

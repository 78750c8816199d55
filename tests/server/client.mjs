// The npm package `chromadb` on a server of ours: prints one JSON object with what it was told.
// Usage: node client.mjs FOLDER_WITH_NODE_MODULES HOST PORT [TOKEN]

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, host, port, token] = process.argv.slice(2);
const require = createRequire(folder + "/");
const { ChromaClient } = await import(pathToFileURL(require.resolve("chromadb")));
const headers = token ? { "x-chroma-token": token } : {};
const client = new ChromaClient({ host, port: Number(port), ssl: false, headers });

const told = {};
told.version = await client.version();
told.heartbeat = (await client.heartbeat()) > 0;
const things = await client.createCollection({
  name: "from_node",
  metadata: { kind: "test" },
  configuration: { hnsw: { space: "cosine" } },
  embeddingFunction: null,
});
await things.add({
  ids: ["a", "b", "c"],
  embeddings: [[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0]],
  documents: ["one", "two", "three"],
  metadatas: [{ n: 1 }, { n: 2 }, { n: 3 }],
});
await things.upsert({ ids: ["d"], embeddings: [[0, 0, 1]], documents: ["four"] });
await things.update({ ids: ["b"], metadatas: [{ n: 20, more: true }] });
told.count = await things.count();
told.query = await things.query({ queryEmbeddings: [[1, 0, 0]], nResults: 2 });
told.filtered = await things.get({ where: { n: { $gt: 2 } } });
told.document = await things.get({ whereDocument: { $contains: "thr" } });
told.peek = await things.peek({ limit: 1 });
await things.delete({ ids: ["a"] });
told.left = (await things.get()).ids;
await things.modify({ name: "renamed" });
told.names = (await client.listCollections()).map((found) => found.name);
told.collections = await client.countCollections();
told.errors = {};
for (const [name, call] of Object.entries({
  missing: () => client.getCollection({ name: "nothing", embeddingFunction: null }),
  dimension: () => things.query({ queryEmbeddings: [[1, 0]], nResults: 2 }),
  duplicate: () => client.createCollection({ name: "renamed", embeddingFunction: null }),
})) {
  try {
    await call();
    told.errors[name] = null;
  } catch (error) {
    told.errors[name] = [error.constructor.name, error.message];
  }
}
await client.deleteCollection({ name: "renamed" });
told.end = await client.countCollections();
console.log(JSON.stringify(told));

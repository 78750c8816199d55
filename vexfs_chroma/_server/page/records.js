// Asking for records, in the ways that the browser offers, and showing them.

import { collection, get, post } from "./api.js";
import { dialog, h, table } from "./dom.js";
import * as format from "./format.js";

const MOST_PAIRS = 8;
const PREVIEW_LENGTH = 600; // more than a row shows

export const WAYS = [
  ["contains", "documents that contain"],
  ["words", "best by words (BM25)"],
  ["ids", "ids"],
  ["similar", "nearest to id"],
];

/** What is to be known about the text of some ways; those are texts of several lines. */
export const HINTS = {
  ids: "One id in each line, exactly as it is; Ctrl+Enter searches",
  similar: "All of the text is the id, exactly as it is",
};

/**
 * One page: { ids, documents, metadatas, numbers, more, sent }.  `numbers` are distances or scores,
 * `sent` the requests that it took: [path, body].
 * asked: { way, text, where, order, offset, after, limit }; `after`: the `next` of the page before, in an order.
 */
export async function page(place, asked, signal) {
  const path = collection(place);
  const sent = [];
  const found = await find(path, asked, (url, body) => {
    sent.push([url, body]);
    return post(url, body, { signal });
  });
  return { ...found, sent };
}

/**
 * What is looked for: null where that is nothing.  Ids are taken as they are, blanks and commas
 * too: of several one in each line, of one, whose neighbours are wanted, the whole text.
 */
export function wanted({ way, text }) {
  if (way === "similar") return text || null;
  if (way !== "ids") return text.trim() || null;
  const lines = [...new Set(text.split("\n"))].filter((line) => line !== "");
  return lines.length ? lines : null;
}

function find(path, asked, send) {
  const text = wanted(asked);
  if (text && asked.way === "words") return byWords(path, { ...asked, text }, send);
  if (text && asked.way === "similar") return similar(path, asked, send);
  const body = { limit: asked.limit + 1, offset: asked.offset, include: ["documents", "metadatas"], ...filters(asked) };
  if (text && asked.way === "ids") body.ids = text;
  if (asked.order) return ordered(path, asked, body, send);
  return send(`${path}/get`, body).then((answer) => cut(answer, asked.limit));
}

/** What selects records, besides ids. */
function filters({ way, text, where }) {
  const found = {};
  if (where) found.where = where;
  if (text.trim() && way === "contains") found.where_document = { $contains: text };
  return found;
}

/** One more than the page was asked for, to know whether there is a next one. */
function cut(found, limit) {
  const part = (values) => values?.slice(0, limit);
  return {
    ids: part(found.ids),
    documents: part(found.documents),
    metadatas: part(found.metadatas),
    numbers: part(found.numbers),
    more: found.ids.length > limit,
  };
}

/** By cursor: a page far behind costs no more than the first one. */
async function ordered(path, asked, body, send) {
  const { offset, ...rest } = body;
  const order = { order_by: asked.order.slice(1), descending: asked.order.startsWith("-") };
  const found = await send(`${path}/vexfs/get`, { ...rest, limit: asked.limit, ...order, after: asked.after });
  return { ...cut(found, asked.limit), more: found.next !== null, next: found.next };
}

async function byWords(path, asked, send) {
  const most = asked.offset + asked.limit + 1;
  const search = {
    rank: { $bm25: { query: asked.text, limit: most } },
    limit: { offset: asked.offset, limit: asked.limit + 1 },
    select: { keys: ["#document", "#metadata", "#score"] },
  };
  if (asked.where) search.filter = asked.where;
  const found = await send(`${path}/search`, { searches: [search] });
  const [ids, documents, metadatas, scores] = ["ids", "documents", "metadatas", "scores"].map(
    (name) => found[name]?.[0],
  );
  // The engine ranks by 1 - score, less being better.
  const numbers = scores?.map((score) => 1 - score);
  return cut({ ids, documents, metadatas, numbers }, asked.limit);
}

async function similar(path, asked, send) {
  const own = await send(`${path}/get`, { ids: [asked.text], include: ["embeddings"] });
  if (!own.ids.length) throw new Error(`There is no record with the id ${asked.text}.`);
  const body = {
    query_embeddings: [own.embeddings[0]],
    n_results: asked.offset + asked.limit + 1,
    include: ["documents", "metadatas", "distances"],
  };
  if (asked.where) body.where = asked.where;
  const found = await send(`${path}/query`, body);
  const part = (name) => found[name][0].slice(asked.offset);
  return cut(
    { ids: part("ids"), documents: part("documents"), metadatas: part("metadatas"), numbers: part("distances") },
    asked.limit,
  );
}

/** How many records there are, and how many of them are selected; null where that is not asked. */
export async function counts(place, asked, signal) {
  const path = collection(place);
  const given = filters(asked);
  const isCounted = asked.way !== "ids" && Object.keys(given).length > 0;
  return Promise.all([
    get(`${path}/count`, { signal }),
    isCounted ? post(`${path}/vexfs/count`, given, { signal }) : null,
  ]);
}

/** The keys that metadata has, most frequent first. */
export async function metadataKeys(place, signal) {
  const { keys } = await post(`${collection(place)}/vexfs/keys`, {}, { signal });
  return Object.entries(keys).sort(([, a], [, b]) => b.records - a.records).map(([key]) => key);
}

/** The requests behind a panel, for programs that want the same. */
export function requests(sent) {
  return h(
    "details",
    { class: "requests" },
    h("summary", { class: "muted" }, "The same as JSON"),
    ...sent.map(([path, body]) => h("pre", { class: "wrap code", tabIndex: 0 }, `POST ${path}\n${brief(body)}`)),
  );
}

/** Long vectors are cut: they are read, not sent again. */
function brief(body) {
  const cutVector = (vector) => (vector.length > 4 ? [...vector.slice(0, 4), `… ${vector.length} numbers`] : vector);
  const shown = body.query_embeddings ? { ...body, query_embeddings: body.query_embeddings.map(cutVector) } : body;
  return format.json(shown);
}

/** The table of a page.  `onSimilar` is told the id whose neighbours are wanted. */
export function recordsTable(place, found, way, onSimilar) {
  const rows = found.ids.map((id, i) => ({
    id,
    document: found.documents?.[i],
    metadata: found.metadatas?.[i],
    number: found.numbers?.[i],
  }));
  const columns = [
    { title: "Id", class: "id", cell: (row) => h("code", {}, row.id) },
    { title: "Document", class: "document", cell: document_ },
    { title: "Metadata", class: "metadata", cell: (row) => metadata(row.metadata) },
    {
      title: "",
      class: "actions",
      cell: (row) => [
        h("button", { type: "button", onclick: () => details(place, row), "aria-label": `Details of ${row.id}` }, "Details"),
        h("button", { type: "button", onclick: () => onSimilar(row.id), "aria-label": `Records like ${row.id}` }, "More like this"),
      ],
    },
  ];
  if (found.numbers) {
    const title = way === "words" ? "Score" : "Distance";
    columns.splice(1, 0, { title, number: true, cell: (row) => (row.number === null ? "–" : row.number.toPrecision(4)) });
  }
  return table(columns, rows, { empty: "No records.", caption: "Records" });
}

function document_(row) {
  if (row.document === null || row.document === undefined) return h("span", { class: "muted" }, "no document");
  return h("div", { class: "clamped" }, row.document.slice(0, PREVIEW_LENGTH)); // Details has all
}

function metadata(values) {
  const every = Object.entries(values ?? {});
  const parts = every.slice(0, MOST_PAIRS);
  const more = every.length - parts.length;
  if (!parts.length) return h("span", { class: "muted" }, "–");
  return h(
    "dl",
    { class: "pairs" },
    ...parts.map(([key, value]) =>
      h("div", {}, h("dt", {}, key), h("dd", {}, typeof value === "string" ? value : format.json(value))),
    ),
    more > 0 ? h("div", {}, h("dt", {}, `and ${more} more`)) : null,
  );
}

/** Everything about one record. */
async function details(place, row) {
  const body = h("div", {}, h("p", { class: "muted" }, "Loading…"));
  dialog(`Record ${row.id}`, body);
  let told;
  try {
    const asked = { ids: [row.id], include: ["embeddings", "documents", "metadatas", "uris"] };
    const found = await post(`${collection(place)}/get`, asked);
    told = found.ids.length ? about(found) : [h("p", {}, "It has been deleted meanwhile.")];
  } catch (error) {
    told = [h("p", { class: "notice error" }, error.message)];
  }
  body.replaceChildren(...told);
}

function about(found) {
  const vector = found.embeddings[0];
  const norm = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  const first = vector.slice(0, 8).map((x) => Number(x.toPrecision(5)));
  const part = (title, content) => [h("h3", {}, title), content];
  return [
    ...part("Document", h("pre", { class: "wrap", tabIndex: 0 }, found.documents[0] ?? "none")),
    ...part("Metadata", h("pre", { tabIndex: 0 }, format.json(found.metadatas[0], 2) ?? "none")),
    ...part(
      "Embedding",
      h(
        "p",
        {},
        `${format.count(vector.length)} numbers, Euclidean norm ${norm.toPrecision(5)}: `,
        h("code", {}, `[${first.join(", ")}${vector.length > 8 ? ", …" : ""}]`),
      ),
    ),
    ...(found.uris[0] ? part("URI", h("code", {}, found.uris[0])) : []),
  ];
}

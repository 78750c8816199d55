// Panels of the dashboard that are made anew from each look at the server.

import { partsBar, shareBar } from "./boxes.js";
import { swatch } from "./charts.js";
import { dialog, h, table } from "./dom.js";
import * as format from "./format.js";

const MOST_ROWS = 50;

/** Rows of an account: a colour, a name, a number. */
function account(parts, show, total) {
  const sum = parts.reduce((all, one) => all + one.value, 0);
  return h(
    "dl",
    { class: "account" },
    ...parts.map((one) =>
      h("div", {}, h("dt", {}, one.color ? swatch(one.color) : null, one.name), h("dd", {}, show(one.value))),
    ),
    total === undefined ? null : h("div", { class: "total" }, h("dt", {}, total), h("dd", {}, show(sum))),
  );
}

export function collectionsTable(database) {
  const ones = [...database.collections].sort((a, b) => b.rows - a.rows);
  const several = new Set(ones.map((one) => `${one.tenant}/${one.database}`)).size > 1;
  const found = table(
    [
      { title: "Collection", class: "name", cell: (one) => name(one, several) },
      { title: "Records", number: true, cell: (one) => format.count(one.rows) },
      { title: "Dim.", number: true, cell: (one) => format.count(one.dimension) },
      { title: "Space", cell: (one) => one.space },
      { title: "In the graph", cell: graph },
      { title: "Quantization", cell: (one) => one.quantization ?? "–" },
      { title: "Not in files", number: true, cell: (one) => format.count(one.unflushed_rows) },
      { title: "Dead rows", number: true, cell: (one) => format.count(one.dead_rows) },
      { title: "Files", number: true, cell: (one) => `${one.vector_files} + ${one.payload_files}` },
      { title: "Disk", number: true, cell: (one) => format.bytes(one.disk.total) },
    ],
    ones.slice(0, MOST_ROWS),
    { empty: "There are no collections yet.", caption: "Collections" },
  );
  const more = ones.length - MOST_ROWS;
  return [found, more > 0 ? h("p", { class: "muted" }, `… and ${format.count(more)} smaller ones.`) : null];
}

function name(one, several) {
  const place = [one.tenant, one.database, one.id].map(encodeURIComponent).join("/");
  return [
    h("a", { href: `#/collections/${place}` }, one.name),
    several ? h("div", { class: "muted" }, `${one.tenant} / ${one.database}`) : null,
  ];
}

function graph(one) {
  const rows = one.file_rows + one.unflushed_rows;
  if (!one.graph_rows) return h("span", { class: "muted" }, rows ? "no graph" : "–");
  const share = one.graph_rows / (rows || 1);
  return shareBar(share, format.percent(share));
}

const MEMORY = [
  ["code_rows", "c1"],
  ["links", "c6"],
  ["vectors", "c2"],
  ["documents", "c3"],
  ["columns", "c7"],
  ["text_index", "c4"],
  ["keys", "c8"],
  ["memtables", "c5"],
  ["caches", "c9"],
  ["scratch", "c9"],
  ["engine", "c10"],
  ["catalog", "c10"],
  ["other", "c11"],
];

export function memoryPanel(facts) {
  const parts = MEMORY.map(([key, color]) => ({
    name: key === "other" ? "rest of the process" : format.words(key),
    color,
    value: facts.memory[key] || 0,
  })).filter((one) => one.value > 0);
  const which = facts.processes.length > 1 ? `of process ${facts.pid}, one of ${facts.processes.length}` : "resident";
  return [
    partsBar(parts, "Memory by part"),
    account(parts, format.bytes, `sum, ${which}`),
  ];
}

const DISK = [
  ["vectors", "c2"],
  ["payloads", "c3"],
  ["graphs", "c1"],
  ["logs", "c5"],
  ["tombstones", "c8"],
  ["catalog", "c10"],
  ["leftovers", "c9"],
  ["other", "c11"],
];

export function diskPanel(database) {
  const parts = DISK.map(([key, color]) => ({ name: key, color, value: database.disk[key] || 0 })).filter(
    (one) => one.value > 0,
  );
  const raw = database.collections.reduce((sum, one) => sum + one.raw_document_bytes + one.raw_metadata_bytes, 0);
  const stored = database.collections.reduce(
    (sum, one) => sum + one.stored_document_bytes + one.stored_metadata_bytes,
    0,
  );
  return [
    partsBar(parts, "Disk by part"),
    account(parts, format.bytes, "sum"),
    raw
      ? h("p", { class: "muted" }, `Documents and metadata: ${format.bytes(raw)}, kept in ${format.bytes(stored)}.`)
      : null,
  ];
}

export function queriesPanel(counters) {
  const of = (name) => counters[name] || 0;
  const vectors = of("query.vectors");
  if (!vectors) return h("p", { class: "muted empty" }, "No queries since the start.");
  const engine = ["select", "search", "fetch"].map((stage) => of(`query.${stage}_us`) / 1000);
  const around = Math.max(0, of("op.query.ns") / 1e6 - engine.reduce((sum, one) => sum + one, 0));
  const stages = ["filter", "search", "fetch", "around it"].map((stage, i) => ({
    name: stage,
    color: ["c7", "c1", "c3", "c11"][i],
    value: [...engine, around][i] / vectors,
  }));
  const asked = of("plan.graph") + of("plan.exact") || 1;
  return [
    partsBar(stages, "Time of a query by stage"),
    account(stages, format.ms, "mean time of a query vector"),
    account(
      [
        { name: "answered by a graph", value: of("plan.graph") / asked, show: format.percent },
        { name: "distances in the graph", value: of("query.walk_distances") / vectors },
        { name: "exact distances", value: of("query.exact_distances") / vectors },
        { name: "rows read one by one", value: of("query.read_rows") / vectors },
        ...(of("recall.expected")
          ? [
              {
                name: `recall, ${format.count(of("recall.samples"))} samples`,
                value: of("recall.found") / of("recall.expected"),
                show: (share) => share.toFixed(3),
              },
            ]
          : []),
      ].map((one) => ({ ...one, value: { n: one.value, show: one.show ?? format.short } })),
      ({ n, show }) => show(n),
    ),
    h("p", { class: "muted" }, `Over ${format.count(vectors)} query vectors since the start.`),
  ];
}

export function processesTable(facts) {
  const found = table(
    [
      { title: "Process", cell: (one) => `${one.pid}${one.pid === facts.pid ? " (answered this)" : ""}` },
      { title: "Up", number: true, cell: (one) => format.ago(one.seconds) },
      { title: "CPU", number: true, cell: (one) => (one.cpu_seconds === null ? "–" : `${format.short(one.cpu_seconds)} s`) },
      { title: "Memory", number: true, cell: (one) => format.bytes(one.resident_bytes) },
      { title: "Files", number: true, cell: (one) => format.count(one.open_files) },
    ],
    facts.processes,
    { caption: "Processes" },
  );
  return [
    found,
    account(
      [
        { name: "distance kernels", value: facts.simd },
        { name: "durability", value: facts.database.process.durability },
        { name: "requests that wait", value: format.count(facts.waiting) },
        { name: "on-disk format", value: facts.database.format_version },
      ],
      (value) => value,
    ),
  ];
}

export function slowTable(records, now) {
  const found = table(
    [
      { title: "Operation", cell: (one) => [h("b", {}, one.operation), one.error ? ` (${one.error})` : ""] },
      { title: "Collection", class: "name", cell: of },
      { title: "Slowest", number: true, cell: (one) => format.ms(one.ms) },
      { title: "Times", number: true, cell: (one) => format.count(one.repeats) },
      { title: "Ago", number: true, cell: (one) => format.ago(now - one.at) },
      { title: "About", class: "about", cell: about },
      { title: "Plan", class: "about", cell: plan },
    ],
    records.slice(0, 20),
    { empty: "Nothing took as long as VEXFS_SLOW_MS (100 ms unless it was changed).", caption: "Slow operations" },
  );
  found.classList.add("stack");
  return found;
}

const APART = new Set([
  "at", "pid", "operation", "ms", "repeats", "tenant", "database", "collection", "plan", "error", "include", "request_id",
  "trace_id",
]);

function of(one) {
  const isUsual = (one.database ?? "default_database") === "default_database";
  return [one.collection ?? "–", isUsual ? null : h("div", { class: "muted" }, one.database)];
}

function about(one) {
  const parts = Object.entries(one).filter(([key, value]) => !APART.has(key) && value !== null);
  const text = parts.map(([key, value]) => `${key} ${typeof value === "object" ? format.json(value) : value}`);
  return h("code", {}, text.join(", ") || "–");
}

function plan(one) {
  if (!one.plan) return "–";
  const { why, select_us: filter, search_us: search, fetch_us: fetch } = one.plan;
  const show = () =>
    dialog(`Plan of a slow ${one.operation}`, h("pre", { tabIndex: 0 }, format.json(one, 2)));
  return h(
    "button",
    { type: "button", class: "link", onclick: show },
    `${why}: filter ${format.ms(filter / 1000)}, search ${format.ms(search / 1000)}, fetch ${format.ms(fetch / 1000)}`,
  );
}

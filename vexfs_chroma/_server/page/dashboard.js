// The dashboard: what the server does now and did in the last minutes.

import { ApiError, get, poll } from "./api.js";
import { legend, LineChart } from "./charts.js";
import { fill, h, notice, panel, select } from "./dom.js";
import * as format from "./format.js";
import { collectionsTable, diskPanel, memoryPanel, processesTable, queriesPanel, slowTable } from "./panels.js";

const OPERATIONS = ["query", "search", "get", "count", "add", "upsert", "update", "delete", "transaction"];
const PERCENTILES = [
  ["p50_ms", "p50", "c3"],
  ["p95_ms", "p95", "c2"],
  ["p99_ms", "p99", "c5"],
];
const color = (operation) => `c${OPERATIONS.indexOf(operation) + 1}`;

/** A line through rare points would tell of work that was not done: gaps stay gaps. */
function column(points, operation, name, otherwise) {
  return points.map((point) => point.operations[operation]?.[name] ?? otherwise);
}

class Dashboard {
  constructor(context) {
    this.context = context;
    this.points = [];
    this.shift = 0;
    this.minutes = 5;
    this.operation = "query";
    const open = context.openJson;
    this.tiles = h("div", { class: "tiles" });
    const over = {
      format: format.short,
      formatX: format.clock,
      from: () => this.from(),
      to: () => this.now(),
    };
    this.rates = new LineChart("Operations per second", {
      ...over,
      format: (n) => `${format.short(n)}/s`,
      formatTick: format.short,
      empty: "No operations in the last minutes.",
      idle: "no operations",
    });
    this.times = new LineChart("Latency percentiles", {
      ...over,
      format: format.ms,
      log: true,
      empty: "None of these operations in the last minutes.",
      idle: "none in these seconds",
    });
    this.ratesLegend = h("div");
    this.timesSelect = select(OPERATIONS, "query", {
      "aria-label": "Operation",
      onchange: (event) => {
        this.operation = event.target.value;
        this.drawCharts();
      },
    });
    this.span = select([["2", "2 min"], ["5", "5 min"], ["15", "15 min"]], "5", {
      "aria-label": "Time shown",
      onchange: (event) => {
        this.minutes = Number(event.target.value);
        this.drawCharts();
      },
    });
    this.bodies = {};
    const body = (name) => (this.bodies[name] = h("div", {}, h("p", { class: "muted" }, "Loading…")));
    const facts = { path: "/vexfs/facts", open };
    const history = { path: "/vexfs/history", open };
    this.trouble = h("div");
    this.element = h(
      "div",
      { class: "view" },
      h("h1", { class: "visually-hidden" }, "Dashboard"),
      this.trouble,
      this.tiles,
      h(
        "div",
        { class: "grid" },
        panel("Throughput", { aside: this.span, json: history }, this.rates.element, this.ratesLegend),
        panel(
          "Latency",
          { aside: this.timesSelect, json: history },
          this.times.element,
          legend(PERCENTILES.map(([, name, one]) => ({ name, color: one }))),
        ),
        panel("Collections and their index", { json: facts, wide: true }, body("collections")),
        panel("Slow operations", { json: { path: "/vexfs/slow-log", open }, wide: true }, body("slow")),
        h(
          "div",
          { class: "view" },
          panel("Memory", { json: facts }, body("memory")),
          panel("What queries do", { json: facts }, body("queries")),
        ),
        h(
          "div",
          { class: "view" },
          panel("Disk", { json: facts }, body("disk")),
          panel("Processes", { json: facts }, body("processes")),
        ),
      ),
    );
  }

  /** The server's time now, in seconds: the clocks of two machines differ. */
  now() {
    return Date.now() / 1000 + this.shift;
  }

  /** What is shown begins here: where there is less than was asked for, it takes all the room. */
  from() {
    const first = this.points[0]?.at ?? 0;
    return Math.max(this.now() - this.minutes * 60, Math.min(first, this.now() - 60));
  }

  start() {
    const stops = [
      poll((signal) => this.lookAtHistory(signal), () => 2000),
      // Looking at thousands of collections takes a while: then it is done less often.
      poll((signal) => this.lookAtFacts(signal), (seconds) => Math.max(5000, seconds * 20000)),
    ];
    return () => {
      for (const stop of stops) stop();
      this.rates.close();
      this.times.close();
    };
  }

  async try(look) {
    try {
      await look();
      fill(this.trouble);
      this.context.setState("live", "live");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.context.setState(error.status ? "refused" : "unreachable", "bad");
      fill(this.trouble, notice(explain(error)));
    }
  }

  lookAtHistory(signal) {
    return this.try(async () => {
      const after = this.points.at(-1)?.at;
      const found = await get(`/vexfs/history${after ? `?after=${after}` : ""}`, { signal });
      this.shift = found.at - Date.now() / 1000;
      const oldest = found.at - 900;
      this.points = [...this.points, ...found.points].filter((point) => point.at > oldest);
      this.recent = found.recent;
      this.context.setVersion(found.version);
      this.drawCharts();
      this.drawTiles();
    });
  }

  lookAtFacts(signal) {
    return this.try(async () => {
      const [facts, slow] = await Promise.all([
        get("/vexfs/facts", { signal }),
        get("/vexfs/slow-log", { signal }),
      ]);
      this.facts = facts;
      fill(this.bodies.collections, collectionsTable(facts.database));
      fill(this.bodies.slow, slowTable(slow, facts.at));
      fill(this.bodies.memory, memoryPanel(facts));
      fill(this.bodies.disk, diskPanel(facts.database));
      fill(this.bodies.queries, queriesPanel(facts.counters));
      fill(this.bodies.processes, processesTable(facts));
      this.drawTiles();
    });
  }

  drawCharts() {
    const from = this.from();
    const points = this.points.filter((point) => point.at >= from - 2);
    const x = points.map((point) => point.at);
    const there = OPERATIONS.filter((name) => points.some((point) => point.operations[name]));
    const series = there.map((name) => ({
      name,
      color: color(name),
      values: column(points, name, "per_second", 0),
    }));
    this.rates.set({ x: series.length ? x : [], series });
    fill(this.ratesLegend, legend(series));
    const name = this.operation;
    const times = PERCENTILES.map(([key, label, one]) => ({
      name: label,
      color: one,
      values: column(points, name, key, null),
    }));
    this.times.set({ x: there.includes(name) ? x : [], series: times });
  }

  drawTiles() {
    const recent = this.recent?.operations ?? [];
    const sum = (key) => recent.reduce((total, one) => total + (one[key] || 0), 0);
    const query = recent.find((one) => one.operation === "query");
    const database = this.facts?.database;
    const rows = database?.collections.reduce((total, one) => total + one.rows, 0);
    const resident = this.facts?.processes.reduce((total, one) => total + (one.resident_bytes || 0), 0);
    const latency = query
      ? `p95 ${format.ms(query.p95_ms)} · p99 ${format.ms(query.p99_ms)}`
      : "no queries in the last minute";
    const errors = sum("errors");
    const waiting = this.facts?.waiting ? `${format.count(this.facts.waiting)} waiting · ` : "";
    fill(
      this.tiles,
      tile("Operations", `${format.short(sum("per_second"))}/s`, "over the last minute"),
      tile("Query p50", format.ms(query?.p50_ms), latency),
      tile("Records", format.short(rows), database ? `in ${format.count(database.collections.length)} collections` : ""),
      tile("Indexed", indexed(database), "of rows in large collections"),
      tile("Memory", format.bytes(resident), this.facts ? `${this.facts.processes.length === 1 ? "one process" : `${this.facts.processes.length} processes`}` : ""),
      tile("Errors", format.count(errors), `${waiting}${format.count(sum("slow"))} slow in the last minute`, errors ? "bad" : ""),
    );
  }
}

/** Small collections have no graph and need none: only those that have begun one count. */
function indexed(database) {
  if (!database) return "–";
  const ones = database.collections.filter((one) => one.graph_rows > 0 || one.file_rows >= 10000);
  if (!ones.length) return "–";
  const sum = (key) => ones.reduce((total, one) => total + one[key], 0);
  return format.percent(sum("graph_rows") / (sum("file_rows") + sum("unflushed_rows") || 1));
}

function tile(title, value, detail, kind = "") {
  return h(
    "div",
    { class: `tile ${kind}` },
    h("div", { class: "tile-title" }, title),
    h("div", { class: "tile-value" }, value),
    h("div", { class: "tile-detail muted" }, detail),
  );
}

function explain(error) {
  if (error.status === 403) {
    return `The dashboard tells about all tenants, and ${error.message}. Collections and tuning work with this credential.`;
  }
  return error.status === 401 ? "The dashboard needs a credential." : error.message;
}

export function dashboard(context) {
  const view = new Dashboard(context);
  return { element: view.element, close: view.start() };
}

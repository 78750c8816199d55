// What ef costs and brings: recall and time of a collection's graph beside exact search.

import { collection, post } from "./api.js";
import { BoxChart } from "./boxes.js";
import { LineChart } from "./charts.js";
import { field, fill, h, notice, panel, table } from "./dom.js";
import * as format from "./format.js";
import { CollectionList, PlacePicker, sidePanel } from "./picker.js";
import { requests } from "./records.js";

const EFS = "10, 20, 40, 80, 160, 320, 640";

const recall = (share) => (share === 1 ? "1" : share.toFixed(4).replace(/0$/, ""));

class Tuning {
  constructor(context, wanted) {
    this.context = context;
    this.wanted = wanted;
    this.charts = [];
    this.list = new CollectionList((one) => this.choose(one));
    this.place = new PlacePicker((place) => this.usePlace(place));
    this.name = h("output", { class: "chosen-name" }, "none yet");
    const number = (value, min, max) => h("input", { type: "number", value, min, max, required: true });
    this.queries = number(50, 1, 200);
    this.k = number(10, 1, 1000);
    this.seed = number(0, 0, 4294967295);
    this.efs = h("input", { id: "efs", value: EFS, required: true, pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*" });
    this.run = h("button", { type: "submit", class: "primary", disabled: true }, "Measure");
    this.results = h("div", { class: "view" });
    this.side = sidePanel(this.place, this.list);
    this.element = h(
      "div",
      { class: "view browser" },
      h("h1", { class: "visually-hidden" }, "Tuning"),
      this.side,
      h("div", { class: "content" }, this.form(), this.results),
    );
  }

  form() {
    return panel(
      "Recall and time by ef",
      {},
      h(
        "p",
        { class: "muted" },
        "Records of the collection are searched for, each exactly and by a walk through the graph at every ef. ",
        "Recall is the share of the k nearest that a walk finds.",
      ),
      h(
        "form",
        {
          class: "row",
          onsubmit: (event) => {
            event.preventDefault();
            this.measure();
          },
        },
        h("div", { class: "field grow" }, h("span", { class: "label" }, "Collection"), this.name),
        field("Queries", this.queries),
        field("k", this.k),
        h("div", { class: "field grow" }, h("label", { htmlFor: "efs" }, "ef, up to 12 values"), this.efs),
        field("Seed", this.seed),
        this.run,
      ),
    );
  }

  usePlace(place) {
    this.where = place;
    const wanted = this.wanted;
    this.wanted = {};
    this.list.open(place, wanted.id);
  }

  choose(one) {
    this.model = one;
    this.run.disabled = !one;
    fill(this.name, one ? one.name : "none yet");
    if (!one) return;
    const parts = [this.where.tenant, this.where.database, one.id].map(encodeURIComponent);
    history.replaceState(null, "", `#/tuning/${parts.join("/")}`);
    if (matchMedia("(max-width: 800px)").matches) this.side.open = false;
    if (!this.results.children.length) {
      fill(this.results, h("section", { class: "panel" }, h("p", { class: "muted empty" }, "Nothing is measured yet.")));
    }
  }

  async measure() {
    const place = { ...this.where, id: this.model.id };
    const { name } = this.model;
    const given = this.efs.value.split(",").map(Number);
    const ef = [...new Set(given)].sort((a, b) => a - b);
    const asked = { queries: this.queries.valueAsNumber, k: this.k.valueAsNumber, ef, seed: this.seed.valueAsNumber };
    this.run.disabled = true;
    fill(this.results, h("section", { class: "panel", "aria-busy": "true" }, h("p", { class: "muted empty", role: "status" }, "Measuring…")));
    this.controller = new AbortController();
    try {
      const path = `${collection(place)}/vexfs/tuning`;
      const found = await post(path, asked, { signal: this.controller.signal });
      this.show(name, found);
      this.results.lastElementChild.append(requests([[path, asked]]));
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(this.results, notice(error.message));
    } finally {
      this.run.disabled = false;
    }
  }

  show(name, found) {
    this.closeCharts();
    if (!found.exact) {
      fill(this.results, notice(`${name} has no records to search for.`, "info"));
      return;
    }
    const walked = found.graph.filter((one) => one.plans.graph);
    fill(
      this.results,
      this.summary(name, found, walked),
      h("div", { class: "grid" }, this.recallPanel(found, walked), this.timesPanel(found)),
      panel("All figures", { wide: true }, figures(found)),
    );
  }

  summary(name, found, walked) {
    const lines = [
      `${name}: ${format.count(found.queries)} queries for the ${format.count(found.k)} nearest among ${format.count(found.rows)} records of ${format.count(found.dimension)} dimensions, in ${format.ms(found.seconds * 1000)}.`,
    ];
    if (!found.complete) lines.push("The time was over before all queries were done: this is what there is.");
    if (!walked.length) {
      const why = Object.keys(found.graph[0].plans)[0];
      lines.push(`These queries are not answered by a graph (${why}): they are exact whatever ef is, and recall is 1.`);
    } else {
      for (const aim of [0.95, 0.99]) lines.push(reached(walked, aim, found));
    }
    return h("section", { class: "panel", "aria-label": "Summary", role: "status" }, ...lines.map((line) => h("p", {}, line)));
  }

  recallPanel(found, walked) {
    const chart = new LineChart("Recall by ef", {
      height: 260,
      format: recall,
      formatTick: (share) => Number(share.toPrecision(6)).toString(),
      formatX: (ef) => String(ef),
      tipX: (ef) => `ef ${ef}`,
      ticksX: (data) => data.x,
      logX: true,
      least: Math.min(0.99, Math.floor(Math.min(...found.graph.map((one) => one.recall), 1) * 20) / 20),
      most: 1,
    });
    this.charts.push(chart);
    const series = [
      { name: "recall", color: "c1", values: found.graph.map((one) => one.recall), dots: true },
    ];
    const x = found.graph.map((one) => one.ef);
    const own = found.collection_ef;
    const within = walked.length && own >= x[0] && own <= x.at(-1);
    chart.set({ x, series, rule: within ? { at: own, label: `this collection: ${own}` } : null });
    return panel(
      "Recall by ef",
      {},
      chart.element,
      h("p", { class: "muted" }, `The share of the ${format.count(found.k)} nearest that walks found, over all queries.`),
    );
  }

  timesPanel(found) {
    const chart = new BoxChart("Time of a query", { format: format.ms });
    this.charts.push(chart);
    const rows = found.graph.map((one) => ({ name: `ef ${one.ef}`, color: one.plans.graph ? "c1" : "c2", ...one.ms }));
    chart.set([{ name: "exact", color: "c2", ...found.exact.ms }, ...rows]);
    return panel(
      "Time of a query",
      {},
      chart.element,
      h("p", { class: "muted" }, "Boxes from p25 to p75 with the median, lines from p5 to p95. In the engine, one query at a time."),
    );
  }

  closeCharts() {
    for (const chart of this.charts) chart.close();
    this.charts = [];
  }

  close() {
    this.controller?.abort();
    this.closeCharts();
  }
}

/** The least ef that reaches a recall. */
function reached(walked, aim, found) {
  const one = walked.find((each) => each.recall >= aim);
  if (!one) return `No ef of these reaches a recall of ${aim}.`;
  const faster = found.exact.ms.p50 / one.ms.p50;
  const times = faster >= 1.05 ? `, ${format.short(Number(faster.toPrecision(2)))} times as fast as exact search` : "";
  return `A recall of ${aim} is reached at ef ${one.ef}: ${recall(one.recall)} in ${format.ms(one.ms.p50)} (median)${times}.`;
}

/** A walk keeps at least as many candidates as k needs, whatever ef is. */
function searched(one) {
  if (one.ef === null) return "exact";
  return one.walked_ef > one.ef ? `ef ${one.ef} (${one.walked_ef} for k)` : `ef ${one.ef}`;
}

function figures(found) {
  const n = found.queries;
  return table(
    [
      { title: "Search", cell: (one) => searched(one) },
      { title: "Recall", number: true, cell: (one) => recall(one.recall) },
      { title: "Worst", number: true, cell: (one) => recall(one.worst) },
      { title: "Perfect", number: true, cell: (one) => `${format.count(one.perfect)} of ${format.count(n)}` },
      { title: "p50", number: true, cell: (one) => format.ms(one.ms.p50) },
      { title: "p95", number: true, cell: (one) => format.ms(one.ms.p95) },
      { title: "p99", number: true, cell: (one) => format.ms(one.ms.p99) },
      { title: "Graph distances", number: true, cell: (one) => format.short(Math.round(one.walk_distances)) },
      { title: "Exact distances", number: true, cell: (one) => format.short(Math.round(one.exact_distances)) },
      { title: "Rows read", number: true, cell: (one) => format.short(Math.round(one.read_rows)) },
      { title: "Answered by", cell: (one) => Object.keys(one.plans).join(", ") },
    ],
    [found.exact, ...found.graph],
    { caption: "All figures" },
  );
}

export function tuning(context, [tenant, database, id]) {
  const view = new Tuning(context, { tenant, database, id });
  view.place.start({ tenant, database });
  return { element: view.element, close: () => view.close() };
}

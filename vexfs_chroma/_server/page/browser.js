// The collection browser: tenant, database, collection, and its records page by page.

import { collection, database, get } from "./api.js";
import { field, fill, h, notice, panel, select } from "./dom.js";
import { Filters, unknownOperators } from "./filters.js";
import * as format from "./format.js";
import { CollectionList, PlacePicker, sidePanel } from "./picker.js";
import { counts, HINTS, metadataKeys, page, recordsTable, requests, wanted, WAYS } from "./records.js";

class Records {
  constructor(place, model) {
    this.place = place;
    this.model = model;
    this.offset = 0;
    this.cursors = [];
    this.text = null;
    this.textField = h("div", { class: "field grow" });
    this.way = select(WAYS, "contains", { onchange: () => this.useWay() });
    this.useWay();
    this.size = select(["10", "25", "50", "100"], "25", { onchange: () => this.ask(0) });
    this.order = select([["", "insertion"]], "", { onchange: () => this.ask(0) });
    this.filters = new Filters();
    this.form = h(
      "form",
      {
        class: "search",
        onsubmit: (event) => {
          event.preventDefault();
          this.ask(0);
        },
      },
      h(
        "div",
        { class: "row" },
        field("Find", this.way),
        this.textField,
        field("Order", this.order),
        field("Per page", this.size),
        h("button", { type: "submit", class: "primary" }, "Search"),
        h("button", { type: "button", onclick: () => this.clear() }, "Clear"),
      ),
      this.filters.element,
    );
    this.trouble = h("div");
    this.results = h("div", { class: "results" });
    this.sent = h("div");
    this.said = h("span", { class: "muted", role: "status" });
    this.before = h("button", { type: "button", onclick: () => this.ask(this.offset - this.limit) }, "← Previous");
    this.next = h("button", { type: "button", onclick: () => this.ask(this.offset + this.limit) }, "Next →");
    this.element = h(
      "div",
      {},
      this.form,
      this.trouble,
      this.results,
      h("div", { class: "row pager" }, this.before, this.next, this.said),
      this.sent,
    );
  }

  get limit() {
    return Number(this.size.value);
  }

  /** The control for the text, as the chosen way needs it: an input would drop line breaks. */
  useWay() {
    const way = this.way.value;
    const hint = HINTS[way];
    const about = { id: "find-text", placeholder: "all records", autocomplete: "off", value: this.text?.value ?? "" };
    this.text = hint
      ? h("textarea", { ...about, rows: way === "ids" ? 3 : 1, spellcheck: false, onkeydown: (event) => this.submitBy(event) })
      : h("input", { ...about, type: "search" });
    if (hint) this.text.setAttribute("aria-describedby", "find-hint");
    fill(
      this.textField,
      h("label", { htmlFor: "find-text" }, "Text"),
      this.text,
      hint && h("small", { class: "muted", id: "find-hint" }, hint),
    );
  }

  /** Enter ends a line where there may be several; else it searches, as in an input. */
  submitBy(event) {
    const isMeant = this.way.value === "ids" ? event.ctrlKey || event.metaKey : !event.shiftKey;
    if (event.key !== "Enter" || !isMeant) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  clear() {
    this.way.value = "contains";
    this.useWay();
    this.text.value = "";
    this.order.value = "";
    this.filters.clear();
    this.ask(0);
  }

  similarTo(id) {
    this.way.value = "similar";
    this.useWay();
    this.text.value = id;
    this.ask(0);
    this.form.scrollIntoView({ block: "start" });
  }

  async ask(offset) {
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    try {
      const asked = {
        way: this.way.value,
        text: this.text.value,
        where: this.filters.where(),
        order: this.order.value,
        offset: Math.max(0, offset),
        limit: this.limit,
      };
      if (!asked.offset) this.cursors = [];
      asked.after = this.cursors[asked.offset];
      this.results.setAttribute("aria-busy", "true");
      const begun = performance.now();
      const [found, [rows, selected]] = await Promise.all([
        page(this.place, asked, signal),
        counts(this.place, asked, signal),
      ]);
      this.offset = asked.offset;
      if (found.next) this.cursors[asked.offset + asked.limit] = found.next;
      this.show(found, asked, { rows, selected }, performance.now() - begun);
      fill(this.trouble);
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(this.trouble, notice(this.explain(error)));
    } finally {
      if (!signal.aborted) this.results.removeAttribute("aria-busy");
    }
  }

  explain(error) {
    if (error instanceof SyntaxError) return `The filter is not JSON: ${error.message}`;
    const unknown = error.status === 400 ? unknownOperators(this.filters.where()) : [];
    return unknown.length ? `${error.message}: ${unknown.join(", ")} is no operator` : error.message;
  }

  /** Offer the keys that metadata has, to filters and as orders. */
  async offerKeys() {
    let keys;
    try {
      keys = await metadataKeys(this.place);
    } catch {
      return; // too many to tell: then they are typed
    }
    this.filters.offer(keys);
    const orders = keys.flatMap((key) => [[`+${key}`, `${key}, ascending`], [`-${key}`, `${key}, descending`]]);
    const all = [["", "insertion"], ["-#insertion", "newest first"], ...orders];
    fill(this.order, ...all.map(([value, label]) => h("option", { value }, label)));
  }

  show(found, asked, { rows, selected }, took) {
    fill(this.results, recordsTable(this.place, found, asked.way, (id) => this.similarTo(id)));
    fill(this.sent, requests(found.sent));
    const [first, last] = [asked.offset + 1, asked.offset + found.ids.length];
    const isAsked = wanted(asked) !== null;
    const isAll = !isAsked && !asked.where;
    const isRanked = isAsked && (asked.way === "words" || asked.way === "similar");
    const range = found.ids.length ? `${format.count(first)} to ${format.count(last)}` : "none";
    const known = isRanked ? null : isAll ? rows : selected;
    const of = known === null ? (found.more ? ", and more" : "") : ` of ${format.count(known)}`;
    const among = isAll ? "" : `, among ${format.count(rows)} records`;
    fill(this.said, `${range}${of}${among}, in ${format.ms(Math.round(took * 10) / 10)}`);
    this.order.disabled = Boolean(isRanked);
    this.before.disabled = asked.offset === 0;
    this.next.disabled = !found.more || known === last;
  }

  close() {
    this.controller?.abort();
  }
}

class Browser {
  constructor(context, wanted) {
    this.context = context;
    this.wanted = wanted;
    this.list = new CollectionList((one) => this.choose(one));
    this.place = new PlacePicker((place) => this.usePlace(place));
    this.content = h("div", { class: "content" });
    this.side = sidePanel(this.place, this.list);
    this.element = h(
      "div",
      { class: "view browser" },
      h("h1", { class: "visually-hidden" }, "Collections"),
      this.side,
      this.content,
    );
    this.nothing();
  }

  nothing(text = "Choose a collection to look at its records.") {
    fill(this.content, h("section", { class: "panel" }, h("p", { class: "muted empty" }, text)));
  }

  usePlace(place) {
    this.where = place;
    this.nothing();
    const wanted = this.wanted;
    this.wanted = {};
    this.list.open(place, wanted.id);
  }

  async choose(model) {
    this.records?.close();
    if (!model) {
      this.nothing("There is no such collection, or not any more.");
      return;
    }
    const place = { ...this.where, id: model.id };
    const parts = [place.tenant, place.database, place.id].map(encodeURIComponent);
    history.replaceState(null, "", `#/collections/${parts.join("/")}`);
    if (matchMedia("(max-width: 800px)").matches) this.side.open = false;
    this.records = new Records(place, model);
    const facts = h("div");
    fill(
      this.content,
      panel(
        model.name,
        { json: { path: jsonPath(place), open: this.context.openJson } },
        facts,
        h("details", {}, h("summary", {}, "Configuration and schema"), h("pre", { tabIndex: 0 }, format.json(model, 2))),
      ),
      h("section", { class: "panel", "aria-label": "Records" }, this.records.element),
    );
    this.records.ask(0);
    this.records.offerKeys();
    fill(facts, await about(model, place));
  }

  close() {
    this.records?.close();
  }
}

const jsonPath = (place) =>
  `${database(place.tenant, place.database)}/collections/by-id/${encodeURIComponent(place.id)}`;

async function about(model, place) {
  const { hnsw, spann } = model.configuration_json ?? {};
  const index = hnsw ?? spann ?? {};
  const parts = [
    ["id", h("code", {}, model.id)],
    ["dimension", model.dimension ? format.count(model.dimension) : "none yet"],
    ["space", index.space ?? "–"],
    ["graph", hnsw ? `M ${hnsw.max_neighbors}, ef ${hnsw.ef_construction} building, ${hnsw.ef_search} searching` : "–"],
  ];
  try {
    const status = await get(`${collection(place)}/indexing_status`);
    parts.push(["indexed", `${format.percent(status.op_indexing_progress)} of ${format.count(status.total_ops)}`]);
  } catch (error) {
    parts.push(["indexed", error.message]);
  }
  const metadata = Object.entries(model.metadata ?? {});
  if (metadata.length) parts.push(["metadata", metadata.map(([key, value]) => `${key}: ${value}`).join(", ")]);
  return h("dl", { class: "facts" }, ...parts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

export function browser(context, [tenant, database, id]) {
  const view = new Browser(context, { tenant, database, id });
  view.place.start({ tenant, database });
  return { element: view.element, close: () => view.close() };
}

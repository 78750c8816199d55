// Filters on metadata: rows of key, operator and value, or the JSON of `where` itself.

import { field, fill, h, select } from "./dom.js";
import * as format from "./format.js";

const OPERATORS = [
  ["$eq", "="],
  ["$ne", "≠"],
  ["$gt", ">"],
  ["$gte", "≥"],
  ["$lt", "<"],
  ["$lte", "≤"],
  ["$in", "is one of"],
  ["$nin", "is none of"],
  ["$contains", "list has"],
  ["$contains_text", "text contains"],
  ["$starts_with", "text starts with"],
  ["$exists", "exists"],
];
const KNOWN = new Set([
  ...OPERATORS.map(([name]) => name),
  "$and", "$or", "$not_contains", "$not_contains_text", "$not_starts_with", "$icontains_text",
  "$not_icontains_text", "$istarts_with", "$not_istarts_with", "$ieq", "$not_ieq", "$regex", "$not_regex",
]);
const LISTS = new Set(["$in", "$nin"]);
const TEXTS = new Set(["$contains_text", "$starts_with"]);

/** The value that was typed: JSON where it is a number, a boolean or a quoted text, else a text. */
export function valueOf(text) {
  const trimmed = text.trim();
  if (/^(-?\d+(\.\d+)?([eE][-+]?\d+)?|true|false|".*")$/s.test(trimmed)) {
    try {
      return JSON.parse(trimmed);
    } catch {
      return text;
    }
  }
  return text;
}

/** The condition of one row; null while it has no key. */
export function condition(key, operator, text) {
  if (!key) return null;
  if (operator === "$exists") return { [key]: { $exists: valueOf(text || "true") !== false } };
  if (LISTS.has(operator)) {
    return { [key]: { [operator]: text.split(",").map((one) => valueOf(one.trim())) } };
  }
  return { [key]: { [operator]: TEXTS.has(operator) ? text : valueOf(text) } };
}

/** All conditions as one `where`; null: there are none. */
export function joined(conditions, how) {
  const given = conditions.filter(Boolean);
  return given.length > 1 ? { [how]: given } : (given[0] ?? null);
}

/** What begins like an operator and is none: the server only says that the clause is wrong. */
export function unknownOperators(where) {
  if (where === null || typeof where !== "object") return [];
  const own = Array.isArray(where) ? [] : Object.keys(where).filter((key) => key[0] === "$" && !KNOWN.has(key));
  return [...new Set([...own, ...Object.values(where).flatMap(unknownOperators)])];
}

export class Filters {
  constructor() {
    this.keys = h("datalist", { id: "metadata-keys" });
    this.rows = h("div", { class: "filter-rows" });
    this.how = select([["$and", "all of these"], ["$or", "any of these"]], "$and", {
      "aria-label": "How conditions are joined",
      onchange: () => this.changed(),
    });
    this.text = h("textarea", {
      rows: 3,
      spellcheck: false,
      placeholder: '{"topic": {"$eq": "travel"}}',
      oninput: () => {
        this.isRaw = this.text.value.trim() !== this.built();
        this.note();
      },
    });
    this.said = h("small", { class: "muted", role: "status" });
    this.isRaw = false;
    const add = h("button", { type: "button", onclick: () => this.add().focus() }, "Add a condition");
    this.element = h(
      "details",
      { class: "filters" },
      h("summary", {}, "Filters on metadata"),
      h(
        "div",
        { class: "filter-parts" },
        h("div", {}, this.rows, h("div", { class: "row" }, add, this.how)),
        h("div", {}, field("where, as JSON", this.text), this.said),
      ),
      this.keys,
    );
    this.add();
  }

  /** Names that the key fields offer. */
  offer(names) {
    fill(this.keys, ...names.map((name) => h("option", { value: name })));
  }

  add() {
    const changed = () => this.changed();
    const key = h("input", { placeholder: "key", "aria-label": "Key", oninput: changed });
    key.setAttribute("list", this.keys.id);
    const operator = select(OPERATORS, "$eq", { "aria-label": "Operator", onchange: changed });
    const value = h("input", { placeholder: "value", "aria-label": "Value", oninput: changed });
    const drop = () => {
      row.remove();
      if (!this.rows.children.length) this.add();
      this.changed();
    };
    const button = h("button", { type: "button", class: "plain", "aria-label": "Remove this condition", onclick: drop }, "×");
    const row = h("div", { class: "filter-row" }, key, operator, value, button);
    row.read = () => condition(key.value.trim(), operator.value, value.value);
    this.rows.append(row);
    this.how.hidden = this.rows.children.length < 2;
    return key;
  }

  built() {
    const where = joined([...this.rows.children].map((row) => row.read()), this.how.value);
    return where ? format.json(where) : "";
  }

  changed() {
    this.how.hidden = this.rows.children.length < 2;
    this.isRaw = false;
    this.text.value = this.built();
    this.note();
  }

  note() {
    fill(this.said, this.isRaw ? "This JSON is used as it is, not the conditions beside it." : "");
  }

  clear() {
    fill(this.rows);
    this.add();
    this.changed();
  }

  /** The `where` to ask with, or null.  Throws SyntaxError for what is no JSON. */
  where() {
    const text = this.text.value.trim();
    return text ? JSON.parse(text) : null;
  }
}

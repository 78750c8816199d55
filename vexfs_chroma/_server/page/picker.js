// Choosing a tenant, a database and a collection.

import { all, database, get } from "./api.js";
import { field, fill, h, notice, select } from "./dom.js";
import * as format from "./format.js";

const PAGE = 100;

/** Tenant and database; `onChange` gets both whenever they are settled. */
export class PlacePicker {
  constructor(onChange) {
    this.onChange = onChange;
    this.tenant = select([], undefined, { onchange: () => this.useTenant(this.tenant.value) });
    this.database = select([], undefined, { onchange: () => this.tell() });
    this.trouble = h("div");
    this.element = h(
      "div",
      { class: "place" },
      field("Tenant", this.tenant),
      field("Database", this.database),
      this.trouble,
    );
  }

  async start(wanted = {}) {
    try {
      const tenants = await all("/vexfs/tenants", (page) => page.tenants);
      options(this.tenant, tenants, [wanted.tenant, "default_tenant"]);
      await this.useTenant(this.tenant.value, wanted.database);
    } catch (error) {
      fill(this.trouble, notice(error.message));
    }
  }

  async useTenant(tenant, wanted) {
    try {
      const path = `/api/v2/tenants/${encodeURIComponent(tenant)}/databases`;
      const names = (await all(path, (page) => page)).map((one) => one.name);
      options(this.database, names, [wanted, "default_database"]);
      fill(this.trouble);
      this.tell();
    } catch (error) {
      fill(this.trouble, notice(error.message));
    }
  }

  tell() {
    if (this.database.value) this.onChange({ tenant: this.tenant.value, database: this.database.value });
  }
}

function options(element, names, wanted) {
  fill(element, ...names.map((name) => h("option", { value: name }, name)));
  element.value = wanted.find((name) => names.includes(name)) ?? names[0] ?? "";
}

/** Collections of a database, page by page, each with its number of records; one is chosen. */
export class CollectionList {
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.filter = h("input", {
      type: "search",
      placeholder: "Name contains…",
      "aria-label": "Filter collections by name",
      oninput: () => this.show(),
    });
    this.list = h("ul", { class: "choices" });
    this.more = h("button", { type: "button", hidden: true, onclick: () => this.load() }, "Load more");
    this.said = h("p", { class: "muted", role: "status" });
    this.element = h("div", { class: "collections" }, this.filter, this.list, this.more, this.said);
    this.found = [];
  }

  async open(place, wanted) {
    this.place = place;
    this.found = [];
    this.chosen = wanted;
    this.turn = (this.turn || 0) + 1;
    fill(this.list);
    await this.load();
    const one = this.found.find((each) => each.id === wanted) ?? (wanted ? await this.byId(wanted) : null);
    if (one) this.choose(one);
    else if (wanted) this.onChoose(null);
  }

  /** A collection that is on none of the pages that were loaded yet. */
  async byId(id) {
    try {
      const path = `${database(this.place.tenant, this.place.database)}/collections/by-id/`;
      return await get(path + encodeURIComponent(id));
    } catch {
      return null;
    }
  }

  async load() {
    const turn = this.turn;
    try {
      const path = `${database(this.place.tenant, this.place.database)}/collections`;
      const page = await get(`${path}?limit=${PAGE}&offset=${this.found.length}`);
      if (turn !== this.turn) return; // another database was chosen meanwhile
      this.found.push(...page);
      this.more.hidden = page.length < PAGE;
      this.show();
    } catch (error) {
      fill(this.said, error.message);
    }
  }

  show() {
    const part = this.filter.value.toLowerCase();
    const shown = this.found.filter((one) => one.name.toLowerCase().includes(part));
    fill(
      this.list,
      ...shown.map((one) => {
        const about = one.dimension ? `${format.count(one.dimension)} dimensions` : "empty";
        return h(
          "li",
          {},
          h(
            "button",
            {
              type: "button",
              class: one.id === this.chosen ? "choice chosen" : "choice",
              "aria-pressed": String(one.id === this.chosen),
              onclick: () => this.choose(one),
            },
            h("span", { class: "choice-name" }, one.name),
            h("small", { class: "muted" }, about),
          ),
        );
      }),
    );
    const left = this.more.hidden ? "" : " so far";
    fill(
      this.said,
      this.found.length
        ? `${format.count(shown.length)} of ${format.count(this.found.length)} collections${left}`
        : "This database has no collections.",
    );
  }

  choose(one) {
    this.chosen = one.id;
    this.show();
    this.onChoose(one);
  }
}

/** Both in a panel beside what is shown of the chosen collection; it can be closed. */
export function sidePanel(place, list) {
  return h(
    "details",
    { class: "panel side", open: true },
    h("summary", {}, h("h2", {}, "Collections")),
    place.element,
    list.element,
  );
}

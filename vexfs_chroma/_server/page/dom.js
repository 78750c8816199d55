// Making elements.  Text from the server becomes text nodes, whatever it says; nothing here, or
// anywhere on the page, parses HTML.

/**
 * An element.  `properties`: on... are listeners, `class` and whatever has a dash are attributes,
 * the others are properties of the element.  Children are elements or values; null is left out.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || !(name in element)) {
      element.setAttribute(name, value);
    } else element[name] = value;
  }
  fill(element, ...children);
  return element;
}

/** Replace the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children
      .flat()
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map((child) => (child instanceof Node ? child : document.createTextNode(String(child)))),
  );
  return element;
}

let ids = 0;

/** A label with its control. */
export function field(label, control, hint) {
  control.id ||= `f${++ids}`;
  const parts = [h("label", { htmlFor: control.id }, label), control];
  if (hint) {
    const text = h("small", { class: "muted", id: `${control.id}-hint` }, hint);
    control.setAttribute("aria-describedby", text.id);
    parts.push(text);
  }
  return h("div", { class: "field" }, ...parts);
}

export function select(options, value, properties = {}) {
  const element = h(
    "select",
    properties,
    ...options.map((option) => {
      const [name, label] = Array.isArray(option) ? option : [option, option];
      return h("option", { value: name }, label);
    }),
  );
  if (value !== undefined) element.value = value;
  return element;
}

/** A panel: a heading, what stands beside it, and the content. */
export function panel(title, { aside, json, wide = false } = {}, ...children) {
  const tools = [aside, json && jsonLink(json, title)].filter(Boolean);
  return h(
    "section",
    { class: wide ? "panel wide" : "panel", "aria-label": title },
    h("div", { class: "panel-head" }, h("h2", {}, title), h("div", { class: "tools" }, ...tools)),
    ...children,
  );
}

/** A link to a panel's figures as JSON; with a credential they are shown here, for the header. */
export function jsonLink(json, title) {
  const link = h("a", { class: "json", href: json.path, target: "_blank", rel: "noopener" }, "JSON");
  link.setAttribute("aria-label", `${title} as JSON`);
  link.addEventListener("click", (event) => json.open?.(event, link.getAttribute("href"), title));
  return link;
}

export function table(columns, rows, { empty = "Nothing.", caption } = {}) {
  if (!rows.length) return h("p", { class: "muted empty" }, empty);
  return h(
    "div",
    { class: "scroll", tabIndex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ...columns.map((one) => h("th", { scope: "col", class: one.number ? "n" : "" }, one.title)),
        ),
      ),
      h(
        "tbody",
        {},
        ...rows.map((row) =>
          h(
            "tr",
            {},
            ...columns.map((one) =>
              h("td", { class: one.number ? "n" : one.class || "", "data-title": one.title }, one.cell(row)),
            ),
          ),
        ),
      ),
    ),
  );
}

export function notice(message, kind = "error") {
  return h("p", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" }, message);
}

/** A dialog with this content; closes by its button, Escape, or a click beside it. */
export function dialog(title, ...children) {
  const close = h("button", { type: "button", class: "plain", onclick: () => box.close() }, "Close");
  const box = h(
    "dialog",
    { "aria-label": title },
    h("div", { class: "panel-head" }, h("h2", {}, title), close),
    ...children,
  );
  box.addEventListener("click", (event) => event.target === box && box.close());
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

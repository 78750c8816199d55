// The page: which panel is shown, and who uses it.

import { forget, get, keepPassword, keepToken, session } from "./api.js";
import { browser } from "./browser.js";
import { dashboard } from "./dashboard.js";
import { dialog, field, fill, h, notice } from "./dom.js";
import * as format from "./format.js";
import { tuning } from "./tuning.js";

const VIEWS = { dashboard, collections: browser, tuning };
const main = document.getElementById("main");
const state = document.getElementById("state");
const signOut = document.getElementById("sign-out");

let view = null;
let signedIn = false;

const context = {
  setState(text, kind) {
    if (state.textContent !== text) state.textContent = text;
    state.className = `state ${kind}`;
  },
  setVersion(version) {
    document.getElementById("version").textContent = version;
  },
  /** Show a panel's JSON here where a credential is needed, which a link cannot send. */
  async openJson(event, path, title) {
    if (signOut.hidden) return;
    event.preventDefault();
    const text = h("pre", { tabIndex: 0 }, "Loading…");
    dialog(title, h("p", { class: "muted" }, h("code", {}, `GET ${path}`)), text);
    try {
      text.textContent = format.json(await get(path), 2);
    } catch (error) {
      text.textContent = error.message;
    }
  },
};

function close() {
  view?.close();
  view = null;
}

/** Show the panel that the address names. */
function route() {
  if (!signedIn) return;
  const [name, ...parts] = location.hash.replace(/^#\/?/, "").split("/");
  const chosen = Object.hasOwn(VIEWS, name) ? name : "dashboard";
  close();
  context.setState("", "");
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.getAttribute("href") === `#/${chosen}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  let values;
  try {
    values = parts.map(decodeURIComponent);
  } catch {
    values = []; // not an address of ours
  }
  view = VIEWS[chosen](context, values);
  fill(main, view.element);
  document.title = `${chosen} – vexfs_chroma`;
}

/** Ask for a credential. */
function askWho(message) {
  signedIn = false;
  close();
  context.setState("", "");
  document.getElementById("who").textContent = "";
  signOut.hidden = true;
  const token = h("input", { type: "password", autocomplete: "off", spellcheck: false });
  const name = h("input", { autocomplete: "username", spellcheck: false });
  const password = h("input", { type: "password", autocomplete: "current-password" });
  const form = (keep, ...fields) => {
    const onsubmit = (event) => {
      event.preventDefault();
      keep();
      start(true);
    };
    return h("form", { onsubmit }, ...fields, h("button", { type: "submit", class: "primary" }, "Sign in"));
  };
  const byToken = form(() => keepToken(token.value.trim()), field("Token", token));
  const byName = form(() => keepPassword(name.value, password.value), field("Name", name), field("Password", password));
  fill(
    main,
    h(
      "section",
      { class: "panel sign-in", "aria-label": "Sign in" },
      h("h1", {}, "Sign in"),
      message ? notice(message) : null,
      h("p", { class: "muted" }, "This server needs a credential. It is kept until this tab is closed, and sent in a header."),
      byToken,
      h("details", {}, h("summary", {}, "Name and password instead"), byName),
    ),
  );
  token.focus();
}

/** Who is there?  Everything else follows. */
async function start(given = false) {
  try {
    const who = await get("/api/v2/auth/identity", { quiet: true });
    signedIn = true;
    const named = sessionStorage.length > 0 && who.user_id;
    document.getElementById("who").textContent = named ? who.user_id : "";
    signOut.hidden = !named;
    route();
  } catch (error) {
    if (error.status === 401) {
      forget();
      askWho(given ? error.message : "");
    } else {
      context.setState("unreachable", "bad");
      fill(main, notice(`${error.message} Trying again.`));
      setTimeout(start, 3000);
    }
  }
}

session.onDenied = () => {
  if (!signedIn) return;
  forget();
  askWho("The credential is not valid any more.");
};
signOut.addEventListener("click", () => {
  forget();
  start();
});
addEventListener("hashchange", route);
start();

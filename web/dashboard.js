// The dashboard: the state of every view (from GET /views) and the stream of invalidations (over the WebSocket).
//
// The page never passes off old data as current: while the connection is down, everything is dimmed and a banner
// says how old it is. Rows are updated in place, so that focus and selection survive.

import { Afresh } from "./afresh.js";

const STREAM_LENGTH = 100; // entries kept in the list, and at most so many held back while it is paused
const SPARK_SECONDS = 60;
const POLL = 5_000; // milliseconds between two looks at the views: "pending" or "failing" invalidate nothing
const BREATH = 250; // least time between two of them, however many invalidations arrive
const PATIENCE = 10_000; // an answer that takes longer is a failure

const $ = (id) => document.getElementById(id);

/** An element with a class and children; strings become text, never markup. */
function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

const chips = (names, kind) => names.map((name) => make("span", `chip ${kind}`, name));

// --- time ------------------------------------------------------------------------------------------------------------

let skew = 0; // milliseconds that the server's clock is ahead of this one, where that is enough to matter
const now = () => Date.now() + skew;

function noteClock(response) {
  const difference = Date.parse(response.headers.get("Date")) - Date.now();
  skew = Math.abs(difference) > 2_000 ? difference : 0;
}

function span(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d`;
}

const ago = (milliseconds) => (milliseconds < 1000 ? "just now" : `${span(milliseconds)} ago`);

function took(milliseconds) {
  if (milliseconds == null) return "–";
  if (milliseconds < 1000) return `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(1)} s`;
}

const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});

// --- connection ------------------------------------------------------------------------------------------------------

let connection = { state: "connecting" };
let everLive = false;

function onState(state) {
  connection = state;
  if (state.state === "live") {
    everLive = true;
    load();
  }
  showConnection();
}

/** Why the service itself would say that it is not ready, as far as the newest look tells. */
const reasons = () => snapshot?.reasons ?? [];

function showConnection() {
  const degraded = connection.state === "deaf" || (connection.state === "live" && reasons().length > 0);
  const state = degraded ? "degraded" : connection.state;
  const words = {
    live: "live",
    degraded: "degraded",
    connecting: everLive ? "reconnecting" : "connecting",
    waiting: "reconnecting",
    refused: "refused",
    closed: "closed",
  };
  document.body.dataset.state = state;
  setText($("state-text"), words[state]);
  // The count is kept out of the live region's way: a screen reader hears "reconnecting" once, not every second.
  setText(
    $("countdown"),
    state === "waiting" ? `in ${Math.max(1, Math.ceil((connection.retryAt - Date.now()) / 1000))} s` : "",
  );
  $("retry").hidden = state !== "waiting" && state !== "refused";
  document.title = state === "live" ? "Afresh" : `Afresh (${words[state]})`;
  showBanner();
}

function showBanner() {
  const lines = [];
  const open = ["live", "deaf"].includes(connection.state);
  if (connection.state === "refused") lines.push(`The server refused the subscription: ${connection.message}`);
  else if (!open && (everLive || connection.state === "waiting"))
    lines.push("Not connected to the service.");
  if (problem) lines.push(problem);
  const old = lines.length > 0;
  const deaf = Boolean(snapshot) && !snapshot.listening;
  if (open && !problem) {
    lines.push(...reasons().map((reason) => `${reason}.`));
    if (!lines.length && connection.state === "deaf") lines.push("The service cannot read its log, and tells of nothing.");
    if (deaf) lines.push("Changes reach the views once the service listens again.");
  }
  $("banner").hidden = lines.length === 0;
  setText($("banner-text"), lines.join(" "));
  setText($("banner-age"), old && loadedAt ? `What you see was read ${ago(Date.now() - loadedAt)}.` : "");
  document.body.classList.toggle("stale", connection.state !== "live" || Boolean(problem) || deaf);
}

/** Write only what differs: an unchanged node keeps its selection, and live regions say nothing twice. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// --- views -----------------------------------------------------------------------------------------------------------

let snapshot = null; // the last answer of GET /views
let loadedAt = 0; // by this machine's clock
let problem = ""; // why the last look failed
let loading = false;
let again = false;
let suspected = false; // the socket was tried anew because of a failed look, and no look has succeeded since
const rows = new Map(); // a view's name -> the elements that show it

/** Look at the views. At most one look is under way and one to come, however often this is called. */
async function load() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  again = false;
  try {
    const response = await fetch("views", {
      headers: { Accept: "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (!response.ok) throw new Error(await explain(response));
    noteClock(response);
    snapshot = await response.json();
    loadedAt = Date.now();
    problem = "";
    suspected = false;
    showViews();
  } catch (error) {
    problem = `The views could not be read (${error.message}).`;
    // A server that does not answer cannot be pushing either: find out now what the socket has not noticed.
    if (["TypeError", "TimeoutError"].includes(error.name) && connection.state === "live" && !suspected) {
      suspected = true;
      client.reconnect();
    }
  }
  showBanner();
  setTimeout(() => {
    loading = false;
    if (again) load();
  }, BREATH);
}

/** What a failed request says of itself, in one line. */
async function explain(response) {
  const said = await response.json().catch(() => ({}));
  return said.detail || said.title || `HTTP ${response.status}`;
}

function showViews() {
  const { views, role, offset, epoch } = snapshot;
  setText($("role"), role);
  $("role").title = `epoch ${epoch}`;
  if (!client.position) showOffset(offset);
  const count = (status) => views.filter((view) => view.status === status).length;
  const unwell = ["broken", "failing"].filter(count).map((status) => `${count(status)} ${status}`);
  setText($("views-summary"), [`${views.length} ${views.length === 1 ? "view" : "views"}`, ...unwell].join(" · "));
  $("views-empty").hidden = views.length > 0;
  setText($("views-empty"), "No materialized view hangs on a watched table yet. “afresh watch” adds a table.");
  showIgnored(snapshot.ignored ?? []);
  const table = document.querySelector("#views table");
  table.hidden = views.length === 0;
  const names = new Set(views.map((view) => view.name));
  for (const [name, row] of rows) {
    if (!names.has(name)) {
      row.body.remove();
      rows.delete(name);
    }
  }
  views.forEach((view, index) => {
    if (!rows.has(view.name)) rows.set(view.name, makeRow(view.name));
    const row = rows.get(view.name);
    const place = table.tBodies[index] ?? null;
    if (place !== row.body) table.insertBefore(row.body, place);
    showRow(row, view);
  });
  tick();
}

/** Settings that name what the database does not have: nothing else on the page would tell of them. */
function showIgnored(ignored) {
  const said = JSON.stringify(ignored);
  if ($("ignored").dataset.said === said) return;
  $("ignored").dataset.said = said;
  $("ignored").hidden = ignored.length === 0;
  $("ignored").replaceChildren(
    ...ignored.map(({ problem, hint }) =>
      make("li", "", make("p", "reason", problem), hint ? make("code", "hint", hint) : ""),
    ),
  );
}

function makeRow(name) {
  const cell = (label, className = "") => {
    const element = make("td", className);
    element.dataset.label = label;
    return element;
  };
  const heading = make("th", "view");
  heading.scope = "row";
  const row = {
    body: make("tbody"),
    heading,
    status: cell("Status", "status"),
    last: cell("Last refreshed"),
    took: cell("Took", "number"),
    refreshes: cell("Refreshes", "number"),
    failures: cell("Failures", "number"),
    button: make("button", "", "Refresh now"),
    trouble: make("td"),
    rest: make("tr", "trouble"),
    view: null,
  };
  row.name = make("div", "name", name);
  row.sources = make("div", "quiet sources");
  row.patterns = make("div", "chips");
  row.blind = make("div", "blind");
  heading.append(row.name, row.sources, row.blind, row.patterns);
  row.badge = make("span", "badge");
  row.waiting = make("div", "quiet");
  row.status.append(row.badge, row.waiting);
  row.time = make("time");
  row.every = make("div", "quiet");
  row.last.append(row.time, row.every);
  row.button.type = "button";
  row.button.setAttribute("aria-label", `Refresh ${name} now`);
  row.button.addEventListener("click", () => refresh(row));
  const action = cell("", "action");
  action.append(row.button);
  row.reason = make("p", "reason");
  row.hint = make("code", "hint");
  row.trouble.colSpan = 7;
  row.trouble.append(row.reason, row.hint);
  row.rest.append(row.trouble);
  row.body.append(
    make("tr", "", heading, row.status, row.last, row.took, row.refreshes, row.failures, action),
    row.rest,
  );
  return row;
}

function showRow(row, view) {
  row.view = view;
  const sources = [...view.tables, ...view.parents];
  setText(row.sources, sources.length ? `from ${sources.join(", ")}` : "from nothing that is watched");
  setText(row.blind, view.blind_spots?.length ? `changes not seen: ${view.blind_spots.join("; ")}` : "");
  if (row.patterns.dataset.names !== view.patterns.join("\n")) {
    row.patterns.dataset.names = view.patterns.join("\n");
    row.patterns.replaceChildren(...chips(view.patterns, "pattern"));
  }
  row.badge.dataset.status = view.status;
  setText(row.badge, view.status);
  setText(row.took, took(view.duration_ms));
  setText(row.refreshes, view.refreshes.toLocaleString("en"));
  setText(row.failures, view.failures.toLocaleString("en"));
  row.failures.classList.toggle("bad", view.failures > 0);
  setText(row.reason, view.reason ?? "");
  setText(row.hint, view.hint ?? "");
  row.rest.hidden = !view.reason && !view.hint;
  row.reason.hidden = !view.reason;
  row.hint.hidden = !view.hint;
}

async function refresh(row) {
  const { name } = row.view;
  if (row.button.ariaDisabled === "true") return; // a button that is disabled for good would lose the focus
  row.button.ariaDisabled = "true";
  say("");
  try {
    // Answered when the refresh is done, which takes as long as it takes.
    const response = await fetch(`views/${encodeURIComponent(name)}/refresh`, { method: "POST" });
    if (!response.ok) throw new Error(await explain(response));
    say(`${name} was refreshed.`);
  } catch (error) {
    say(`${name} could not be refreshed: ${error.message}`, true);
  }
  row.button.ariaDisabled = "false";
  load();
}

let hush = 0;

/** Tell what came of what the reader did: to screen readers always, and for a while on the page if it went wrong. */
function say(text, bad = false) {
  clearTimeout(hush);
  $("said").textContent = text;
  $("said").className = bad ? "banner" : "visually-hidden";
  if (bad) hush = setTimeout(say, 15_000, "");
}

/** When a view is refreshed though nobody writes. */
function byTheClock(view) {
  if (view.next_change) return `changes by itself in ${span(Math.max(0, Date.parse(view.next_change) - now()))}`;
  return view.every_s ? `at least every ${span(view.every_s * 1000)}` : "";
}

/** What changes by the mere passing of time. */
function tick() {
  for (const { view, time, every, waiting } of rows.values()) {
    const last = view.last_refresh && Date.parse(view.last_refresh);
    setText(time, last ? ago(now() - last) : "never");
    time.dateTime = view.last_refresh ?? "";
    time.title = last ? new Date(last).toLocaleString() : "";
    setText(every, byTheClock(view));
    const late = view.pending || view.stale_ms > 0 ? view.stale_ms + (Date.now() - loadedAt) : 0;
    setText(
      waiting,
      late >= 1000 ? `stale for ${span(late)}` : view.pending && view.status === "refreshing" ? "one more to come" : "",
    );
  }
  showConnection();
  showSpark();
}

// --- stream ----------------------------------------------------------------------------------------------------------

let paused = false;
let waitingEntries = []; // newest first: not shown yet, because a frame has not come round or the list is paused
let missedWhilePaused = 0;
let drawn = false;
let beats = []; // when invalidations arrived, by performance.now()

function onInvalidate(message) {
  beats.push(performance.now());
  remember(message);
}

function remember(message) {
  showOffset(message.offset);
  waitingEntries.unshift({ ...message, heard: Date.now() });
  waitingEntries.length = Math.min(waitingEntries.length, STREAM_LENGTH);
  if (paused) missedWhilePaused++;
  if (!drawn) {
    drawn = true;
    requestAnimationFrame(showStream);
  }
  load();
}

function showStream() {
  drawn = false;
  setText(
    $("stream-summary"),
    paused && missedWhilePaused ? `paused, ${missedWhilePaused} new` : paused ? "paused" : "",
  );
  if (!paused && waitingEntries.length) {
    const list = $("stream");
    list.prepend(...waitingEntries.map(entry));
    waitingEntries = [];
    while (list.children.length > STREAM_LENGTH) list.lastElementChild.remove();
    $("stream-empty").hidden = true;
  }
  showSpark();
}

function entry(message) {
  const at = new Date(message.at ?? message.heard);
  const time = make("time", "", clock.format(at));
  time.dateTime = at.toISOString();
  const item = make("li", message.type, time, make("span", "offset", `#${message.offset}`));
  if (message.type === "resync") {
    item.append(
      make("span", "chips", make("span", "chip resync", "resync")),
      make("span", "about", `what was missed is not known (${message.reason}): all was read again`),
    );
    return item;
  }
  const about = [message.views?.join(", "), message.tables?.length ? `by ${message.tables.join(", ")}` : ""];
  item.append(
    make("span", "chips", ...chips(message.patterns, "pattern")),
    make("span", "about", about.filter(Boolean).join(" ")),
  );
  return item;
}

function showOffset(offset) {
  setText($("offset"), offset.toLocaleString("en"));
}

function showSpark() {
  const end = performance.now();
  beats = beats.filter((beat) => end - beat < SPARK_SECONDS * 1000);
  const bars = new Array(SPARK_SECONDS).fill(0);
  for (const beat of beats) bars[SPARK_SECONDS - 1 - Math.floor((end - beat) / 1000)]++;
  const top = Math.max(4, ...bars);
  const path = bars
    .map((count, index) => (count ? `M${index * 2 + 0.25} 24v${(-24 * count) / top}h1.5V24z` : ""))
    .join("");
  document.querySelector("#spark path").setAttribute("d", path);
  setText($("rate"), beats.length.toLocaleString("en"));
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  missedWhilePaused = 0;
  $("pause").setAttribute("aria-pressed", String(paused));
  setText($("pause"), paused ? "Resume" : "Pause");
  showStream();
});

// --- start -----------------------------------------------------------------------------------------------------------

const client = new Afresh("ws", { onInvalidate, onResync: remember, onState, longestPause: 10_000 });
$("retry").addEventListener("click", () => client.reconnect());
setInterval(tick, 1000);
setInterval(() => document.visibilityState === "visible" && load(), POLL);
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && load());
load();

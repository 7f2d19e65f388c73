// The browser client of Afresh: one WebSocket that says which of your cached data has become stale.
//
//   import { Afresh } from "/static/afresh.js";
//   const afresh = new Afresh("/ws", {
//     patterns: ["clients", "nps"],                         // left out: everything
//     onState: ({ state }) => state === "live" && reload(), // connected: load what you show
//     onInvalidate: ({ patterns }) => drop(patterns),       // stale now, and fresh data can be read already
//     onResync: () => dropEverything(),                     // what was missed cannot be said
//   });
//
// And the rows of a named query, now and whenever they have become others; what comes back ends it:
//
//   const end = afresh.query("clients", { status: "active" }, (rows) => show(rows));
//
// It reconnects by itself, with growing and jittered pauses, and resumes where it was: whatever happened in between
// is delivered, or `onResync` is called. Options and their defaults are below; `token` may be a function (also an async
// one) that is asked at each attempt. States: connecting, live, deaf (connected, but
// the service itself cannot read its log, and what you show may be old), waiting (`retryAt`, in milliseconds since 1970),
// refused (`code`, `message`; call `reconnect()` to try again) and closed.

const PROTOCOL = "afresh.v1";
const ALL = "1"; // the one subscription that a client holds
const PROBE = "are you there"; // one that it never holds: the server answers that it knows of none such
const DEFAULTS = {
  patterns: undefined, // which cache keys to hear of, as prefixes
  token: undefined, // a bearer token, or a function that returns one; for a proxy in front, the service does not ask for it
  onInvalidate: () => {},
  onResync: () => {},
  onState: () => {},
  firstPause: 500, // milliseconds before the first new attempt; doubled after each failure …
  longestPause: 30_000, // … up to this
  silence: 30_000, // when nothing was heard for so long, the server is asked for a sign of life
  patience: 10_000, // a connection that takes longer to open or to answer is given up
};

export class Afresh {
  #address;
  #options;
  #socket = null;
  #attempt = 0; // counts connection attempts, so that a late answer to an older one is known for what it is
  #failures = 0;
  #liveSince = 0;
  #timer = null; // the one thing waited for: the next attempt, an answer, or the end of a silence
  #position = null; // {epoch, offset} of the last thing heard
  #epoch = null;
  #queries = new Map(); // by the id under which each is asked
  #asked = 0;
  #current = true; // whether the service says that it can read its log
  #wakeUp = () => this.reconnect();

  constructor(url = "/ws", options = {}) {
    this.#address = new URL(url, globalThis.document?.baseURI);
    this.#address.protocol = this.#address.protocol.replace(/^http/, "ws");
    this.#options = { ...DEFAULTS, ...options };
    // The browser knows first when the network goes and comes back; a socket may take minutes to notice.
    globalThis.addEventListener?.("online", this.#wakeUp);
    globalThis.addEventListener?.("offline", this.#wakeUp);
    this.#connect();
  }

  /** Where a later connection would resume: {epoch, offset}, or null before the first one. */
  get position() {
    return this.#position;
  }

  /**
   * Call `onRows(rows, message)` with what the named query answers, now and whenever it answers something else, and
   * `onError(message)` where it has no answer for now. Returns a function that ends it.
   */
  query(name, params, onRows, onError = ({ code, message }) => console.error("afresh:", name, code, message)) {
    const id = `query ${++this.#asked}`;
    this.#queries.set(id, { name, params, onRows, onError });
    if (this.#liveSince) this.#ask(id);
    return () => {
      if (this.#queries.delete(id) && this.#liveSince) this.#say({ type: "unsubscribe", id });
    };
  }

  /** Give the connection up, if there is one, and try a new one at once. */
  reconnect() {
    this.#failures = 0;
    this.#abandon();
    this.#connect();
  }

  /** End for good. */
  close() {
    globalThis.removeEventListener?.("online", this.#wakeUp);
    globalThis.removeEventListener?.("offline", this.#wakeUp);
    this.#abandon();
    this.#options.onState({ state: "closed" });
  }

  async #connect() {
    const attempt = ++this.#attempt;
    await null; // a caller's `const client = new Afresh(…)` is complete before its first callback
    if (attempt !== this.#attempt) return;
    this.#options.onState({ state: "connecting" });
    let socket;
    try {
      const { token } = this.#options;
      const secret = typeof token === "function" ? await token() : token;
      if (attempt !== this.#attempt) return; // closed or restarted while the token was fetched
      socket = new WebSocket(this.#address, secret ? [PROTOCOL, `bearer.${secret}`] : [PROTOCOL]);
    } catch (error) {
      if (attempt === this.#attempt) this.#retry();
      return console.error("afresh:", error);
    }
    this.#socket = socket;
    this.#wait(this.#options.patience, () => this.#retry());
    this.#current = true;
    socket.onmessage = ({ data }) => {
      this.#wait(this.#options.silence, () => this.#probe());
      this.#heard(JSON.parse(data));
    };
    socket.onclose = () => this.#retry(); // an error is always followed by a close
  }

  #heard(message) {
    const { onInvalidate, onResync, onState, patterns } = this.#options;
    const { type, epoch = this.#epoch, offset } = message;
    this.#epoch = epoch;
    if (type === "welcome") {
      this.#say({ type: "subscribe", id: ALL, patterns, since: this.#position ?? undefined });
    } else if (type === "subscribed") {
      // What was missed has come before this; if it can no longer be told, a resync has.
      this.#position = { epoch, offset };
      this.#liveSince = Date.now();
      for (const id of this.#queries.keys()) this.#ask(id);
      onState({ state: this.#current ? "live" : "deaf" });
    } else if (type === "error") {
      if (message.id === ALL) {
        this.#abandon();
        onState({ state: "refused", code: message.code, message: message.message });
      } else if (this.#queries.has(message.id)) {
        this.#queries.get(message.id).onError(message);
      } else if (message.id !== PROBE) console.error("afresh:", message.code, message.message);
    } else if (["invalidate", "resync", "position"].includes(type)) {
      this.#position = { epoch, offset };
      if (type === "invalidate") onInvalidate(message);
      if (type === "resync") onResync(message);
    } else if (type === "result") {
      this.#queries.get(message.id)?.onRows(message.rows, message);
    } else if (type === "status") {
      this.#current = message.current;
      if (this.#liveSince) onState({ state: this.#current ? "live" : "deaf" });
    } // what a later version of the protocol adds is no concern of ours
  }

  #retry() {
    if (this.#liveSince && Date.now() - this.#liveSince > 5_000) this.#failures = 0; // it had been well
    this.#abandon();
    const { firstPause, longestPause } = this.#options;
    const pause = Math.min(longestPause, firstPause * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#wait(pause, () => this.#connect());
    this.#options.onState({ state: "waiting", retryAt: Date.now() + pause });
  }

  // A page sees neither the pings of the protocol nor a network that has silently gone: so it asks.
  #probe() {
    if (!this.#liveSince) return this.#retry(); // it never answered the subscription
    this.#wait(this.#options.patience, () => this.#retry());
    this.#say({ type: "unsubscribe", id: PROBE });
  }

  #ask(id) {
    const { name, params } = this.#queries.get(id);
    this.#say({ type: "query", id, name, params });
  }

  #say(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #wait(pause, then) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(then, pause);
  }

  #abandon() {
    clearTimeout(this.#timer);
    this.#attempt++;
    this.#liveSince = 0;
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }
}

// Keeps the page up to date: by server-sent events, and by asking for the page while there are none.
//
// The stream is closed while nobody looks (a hidden tab): browsers open only a few connections to one address.

const POLL = 5000;
const AGAIN = 30000;
const SILENCE = 25000; // the daemon's heart beats every 10 s

export function follow(url, shown, said) {
  let source = null;
  let polling = 0;
  let again = 0;
  let watchdog = 0;

  function heard() {
    clearTimeout(watchdog);
    watchdog = setTimeout(poll, SILENCE);
  }

  function stop() {
    if (source) source.close();
    source = null;
    for (const timer of [polling, again, watchdog]) clearTimeout(timer);
  }

  function listen() {
    stop();
    if (!url) {
      poll();
      return;
    }
    source = new EventSource(url);
    heard();
    source.addEventListener("open", heard);
    source.addEventListener("beat", () => {
      heard();
      said("live", "live");
    });
    source.addEventListener("page", (event) => {
      heard();
      said("live", "live");
      shown(JSON.parse(event.data));
    });
    source.addEventListener("bye", poll);
    source.addEventListener("error", poll);
  }

  async function poll() {
    stop();
    if (url) again = setTimeout(listen, AGAIN);
    await ask();
  }

  async function ask() {
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const page = await answer.text();
      if (source) return; // a stream came first, and what it says is newer
      shown(page);
      said("polling", "refreshed every 5 s");
    } catch {
      if (source) return;
      said("lost", `no answer since ${new Date().toLocaleTimeString()}: what you see is old`, true);
    }
    clearTimeout(polling);
    if (!source && !document.hidden) polling = setTimeout(ask, POLL);
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : listen()));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && listen());
  listen();
  return { now: () => (source ? undefined : ask()) };
}

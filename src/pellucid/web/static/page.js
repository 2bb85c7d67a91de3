// What the page can do with JavaScript: a field and its bytes light up together, Python is copied on a click, keys are
// opened from the drawing, and what happens after the page was loaded appears. Nothing of the page needs it.

// ---- bytes and fields ----

function range(row) {
  const [first, last] = row.dataset.f.split("-").map(Number);
  return { first, last };
}

function light(octets, first, last) {
  for (const piece of octets.querySelectorAll(".hex [data-f]")) {
    const leaf = Number(piece.dataset.f);
    piece.classList.toggle("hot", leaf >= first && leaf <= last);
  }
}

function lightRow(octets, row) {
  for (const other of octets.querySelectorAll("tr.hot")) if (other !== row) other.classList.remove("hot");
  if (row) {
    row.classList.add("hot");
    const { first, last } = range(row);
    light(octets, first, last);
  } else {
    light(octets, -1, -1);
  }
}

function rowOf(octets, leaf) {
  return octets.querySelector(`tr.leaf[data-f="${leaf}-${leaf}"]`);
}

function prepare(octets) {
  const rows = [...octets.querySelectorAll("tbody tr")];
  rows.forEach((row, index) => { row.tabIndex = index ? -1 : 0; });
  octets.addEventListener("pointerover", (event) => {
    const row = event.target.closest("tbody tr");
    const piece = event.target.closest(".hex [data-f]");
    if (row) lightRow(octets, row);
    else if (piece) lightRow(octets, rowOf(octets, piece.dataset.f));
  });
  octets.addEventListener("pointerleave", () => lightRow(octets, null));
  octets.addEventListener("click", (event) => {
    const piece = event.target.closest(".hex [data-f]");
    const row = piece && rowOf(octets, piece.dataset.f);
    if (row) {
      row.scrollIntoView({ block: "nearest" });
      move(rows, row);
    }
  });
  octets.addEventListener("focusin", (event) => {
    const row = event.target.closest("tbody tr");
    if (row) lightRow(octets, row);
  });
  octets.addEventListener("keydown", (event) => {
    const at = rows.indexOf(event.target);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (at < 0 || next === undefined || !rows[next]) return;
    event.preventDefault();
    move(rows, rows[next]);
  });
}

function move(rows, to) {
  for (const row of rows) row.tabIndex = row === to ? 0 : -1;
  to.focus();
}

// ---- Python ----

function addCopy(code) {
  if (!navigator.clipboard) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Could not copy";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  code.before(button);
}

// ---- the drawing of the keys ----

function openKey(node) {
  const entry = document.getElementById(node.dataset.node);
  if (!entry) return;
  entry.open = true;
  entry.querySelector("summary").focus();
  entry.scrollIntoView({ block: "center" });
}

function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

// ---- what happens after the page was loaded ----

let following = false;  // whether the stream is of this page's connection, and open

function listen(lanes) {
  const url = new URL(lanes.dataset.live, location.href);
  url.searchParams.set("since", lanes.dataset.position);
  const source = new EventSource(url);
  const waiting = document.getElementById("waiting");
  const say = (text) => { if (waiting) waiting.textContent = text; };
  source.addEventListener("open", () => {
    following = true;
    say("What happens from now on appears here.");
  });
  source.addEventListener("error", () => { following = false; });
  source.addEventListener("rows", (event) => {
    const template = document.createElement("template");
    template.innerHTML = event.data;
    const rows = [...template.content.children];
    for (const row of rows) {
      row.classList.add("fresh");
      enhance(row);
    }
    lanes.append(...rows);
    if (event.lastEventId) lanes.dataset.position = event.lastEventId;
  });
  source.addEventListener("section", (event) => {
    const template = document.createElement("template");
    template.innerHTML = event.data;
    const fresh = template.content.firstElementChild;
    const old = fresh && document.getElementById(fresh.id);
    if (!old) return;
    replaceSection(old, fresh);
    say("The keys and the states on this page are drawn anew, with what happened since.");
  });
  for (const last of ["another", "end"]) {
    source.addEventListener(last, (event) => {
      source.close();
      following = false;
      say(event.data);
    });
  }
  addEventListener("pagehide", () => source.close());
}

// Whoever reads a section keeps what is open in it, the place on the screen, and the focus.
function replaceSection(old, fresh) {
  const known = new Set([...old.querySelectorAll("details[id]")].map((one) => one.id));
  for (const details of fresh.querySelectorAll("details[id]")) {
    if (known.has(details.id)) details.open = document.getElementById(details.id).open;
    else details.parentElement.classList.add("fresh");
  }
  enhance(fresh);
  const seen = [...old.querySelectorAll("[id]")].find((one) => one.getBoundingClientRect().bottom > 0);
  const top = seen && seen.getBoundingClientRect().top;
  const aside = [...old.querySelectorAll(".scroll, .code")].map((one) => [place(one), one.scrollLeft]);
  const focused = old.contains(document.activeElement) && place(document.activeElement);
  old.replaceWith(fresh);
  for (const [where, left] of aside) {
    const one = left && at(fresh, where);
    if (one) one.scrollLeft = left;
  }
  if (focused) at(fresh, focused)?.focus({ preventScroll: true });
  const now = seen && document.getElementById(seen.id);
  if (now && top < innerHeight) scrollBy({ top: now.getBoundingClientRect().top - top, behavior: "instant" });
}

// Where an element is in a section: by the nearest name, and as which of those like it.
const ALIKE = "summary, button, a, .scroll, .code";

function place(element) {
  const named = element.closest("[id]");
  return { id: named.id, index: [...named.querySelectorAll(ALIKE)].indexOf(element) };
}

function at(section, { id, index }) {
  const named = section.id === id ? section : section.querySelector(`#${CSS.escape(id)}`);
  return named?.querySelectorAll(ALIKE)[index];
}

// While it follows its connection the page tells of the new keys by itself: nothing has to be loaded anew. Other buttons
// end this connection.
function stay(form) {
  const told = document.createElement("p");
  told.className = "quiet";
  told.setAttribute("role", "status");
  form.append(told);
  const where = document.createElement("a");
  where.href = "#layer-since";
  where.textContent = "Since then";
  form.addEventListener("submit", async (event) => {
    if (!following) return;
    event.preventDefault();
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { accept: "application/json" } });
      if (answer.ok) told.replaceChildren("Both ends go on with new keys: see “", where, "”, below the steps.");
      else location.reload();
    } catch {
      location.reload();
    }
  });
}

function enhance(root) {
  root.querySelectorAll(".octets").forEach(prepare);
  root.querySelectorAll("pre.code").forEach(addCopy);
}

enhance(document);
document.addEventListener("click", (event) => {
  const node = event.target.closest(".keys [data-node]");
  if (node) openKey(node);
});
openTarget();
addEventListener("hashchange", openTarget);
const lanes = document.getElementById("lanes");
if (lanes && lanes.dataset.live) {
  listen(lanes);
  document.querySelectorAll("form[data-action='key-update']").forEach(stay);
}

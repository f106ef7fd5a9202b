// The page of the ranker. Every id and title comes from outside: text is set with textContent alone, never as markup.

const SHOWN = 20;
const STAGES = ["store", "queue", "encode", "score", "order"];
const PERIODS = ["short", "middle", "long"];
const PARTS = ["one", "two", "three", "four"];
const MODEL_NAMES = {
  mgnm: "MGNM", pyramid_mixer: "Pyramid Mixer", sasrec: "SASRec", gru4rec: "GRU4Rec", popularity: "Popularity",
};
const DONE = {
  impression: "shown", click: "clicked", play: "played", finish: "finished", like: "liked", dislike: "disliked",
  comment: "commented", share: "shared", follow: "followed", purchase: "bought", rate: "rated",
};
const REASONS = {
  split: "by the hash of the user",
  override: "by an override",
  holdout: "held out of all experiments",
  unallocated: "no experiment owns the user's slot",
  inactive: "the experiment is not running",
  not_targeted: "the experiment is not for this user",
  disabled: "experiments are switched off",
  no_unit: "no valid user id",
};
const DEGRADED = {
  store_unavailable: "the store did not answer: ranked without history",
  behaviours_corrupt: "damaged behaviours were left out",
  history_unknown: "the model knows none of the user's items",
  bundle_unavailable: "another bundle answered",
  bundle_slow: "the bundle is slow: another one answered",
  unscored_items: "some items have no finite score",
  popularity: "ranked by popularity",
};

const $ = (id) => document.getElementById(id);
const times = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const whole = new Intl.NumberFormat();
const ms = (value) => `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ms`;
const kindOf = (level) => PARTS[Math.abs(level) % PARTS.length];
const percent = (share) => `${Math.round(share * 100)} %`;

/** An element with properties, and children that are elements or text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const chip = (text, kind = "", title = "") => make("span", { className: `chip ${kind}`, textContent: text, title });

async function ask(path, body, signal) {
  const options = { signal, headers: { accept: "application/json" } };
  if (body) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  if (body) options.headers["content-type"] = "application/json";
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  const error = answer?.error ?? {};
  const place = error.field ? `${error.field}: ` : "";
  throw new Error(`${place}${error.message ?? response.statusText} (${error.code ?? response.status})`);
}

// --- the form ------------------------------------------------------------------------------------------------------

let running = null;
let shown = null; // the newest answer
let known = [];
let source = "";

async function suggest(prefix) {
  const answer = await ask(`page/users?prefix=${encodeURIComponent(prefix)}`);
  known = answer.users;
  source = answer.source;
  $("users").replaceChildren(...known.map((user) => make("option", { value: user })));
}

function remember() {
  // In the fragment, which no browser sends: user ids belong into no access log.
  const fields = { user: $("user").value, count: $("count").value, seed: $("seed").value };
  if ($("extra").value) fields.extra = $("extra").value;
  history.replaceState(null, "", `#${new URLSearchParams(fields)}`);
}

function recall() {
  const fields = new URLSearchParams(location.hash.slice(1));
  for (const name of ["user", "count", "seed", "extra"]) if (fields.has(name)) $(name).value = fields.get(name);
}

/** Rank for the user of the form; after a click of this user, show what it changed. */
async function rank(clicked = null) {
  if (!$("ask").reportValidity()) return;
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const user = clicked?.user ?? $("user").value;
  const extra = $("extra").value.split(",").map((id) => id.trim()).filter(Boolean);
  remember();
  $("models").setAttribute("aria-busy", "true");
  $("status").textContent = clicked ? `Telling the models of the click on “${clicked.title}” …` : `Ranking for user ${user} …`;
  $("problem").hidden = true;
  try {
    const question = { user_id: user, seed: $("seed").valueAsNumber, count: $("count").valueAsNumber, extra };
    if (clicked) await ask("page/click", { user_id: user, item_id: clicked.item }, signal);
    const [past, answer] = await Promise.all([
      ask("page/history", { user_id: user }, signal),
      ask("page/compare", question, signal),
    ]);
    showHistory(past, clicked);
    showAnswer(answer, clicked);
    shown = answer;
    if (clicked) refocus(clicked);
  } catch (error) {
    if (signal.aborted) return;
    showProblem(error.message);
  }
  $("models").setAttribute("aria-busy", "false");
}

/** Store a click of the user whose ranking is shown, and rank again. */
function react(button) {
  const cards = [...document.querySelectorAll(".model")];
  const card = button.closest(".model");
  const row = button.closest("tr");
  $("user").value = shown.user_id;
  return rank({
    user: shown.user_id,
    item: row.dataset.item,
    title: button.textContent,
    before: new Map(shown.rankings.filter((one) => !one.error).map((one) => [one.bundle, one.items.map((item) => item.item_id)])),
    card: cards.indexOf(card),
    row: [...row.parentElement.children].indexOf(row),
  });
}

/** Keep the keyboard where it was: at the same place of the same list. */
function refocus(clicked) {
  const rows = document.querySelectorAll(".model")[clicked.card]?.querySelectorAll("tbody tr") ?? [];
  rows[Math.min(clicked.row, rows.length - 1)]?.querySelector(".pick")?.focus({ preventScroll: true });
}

/** Say why there is no user to begin with, and what to do. */
function showNobody() {
  const away = source === "unavailable";
  $("status").textContent = away
    ? "The store did not answer, so no users can be listed. Type any user id and press Rank."
    : "The store holds no users yet. Load behaviours (POST /behaviours), or type any user id and press Rank.";
  $("user").focus();
}

function showProblem(message) {
  $("problem").textContent = message;
  $("problem").hidden = false;
  $("status").textContent = "";
  for (const id of ["arm", "history", "call", "invitation"]) $(id).hidden = true;
  $("models").replaceChildren();
}

// --- what the user did ---------------------------------------------------------------------------------------------

function showHistory(past, clicked) {
  const newest = past.behaviours.length;
  $("history").hidden = false;
  const more = past.count > newest || past.truncated;
  $("history-count").textContent = more ? `the newest ${whole.format(newest)}` : whole.format(newest);
  const notes = { unavailable: "The store did not answer.", wrong_type: "The stored value is of another type." };
  const corrupt = past.corrupt ? `${past.corrupt} damaged records were left out.` : "";
  $("history-note").textContent = notes[past.status] ?? corrupt;
  $("history-note").hidden = !$("history-note").textContent;
  const rows = past.behaviours.map(behaviourRow);
  if (clicked) rows[0]?.classList.add("fresh");
  const nothing = make("li", { className: "empty", textContent: "Nothing yet: the models start from their prior." });
  $("behaviours").replaceChildren(...(rows.length || past.status !== "ok" ? rows : [nothing]));
  $("behaviours").scrollTop = 0;
}

function behaviourRow(behaviour) {
  const when = new Date(behaviour.ts);
  const facts = [DONE[behaviour.action] ?? behaviour.action];
  if (behaviour.value) facts.push(`${behaviour.value}`);
  if (behaviour.play_ms) facts.push(`${whole.format(Math.round(behaviour.play_ms / 1000))} s`);
  const time = make("time", { dateTime: when.toISOString(), textContent: times.format(when) });
  return make(
    "li", {},
    make("div", { className: "title", textContent: behaviour.title }),
    make("div", { className: "sub" }, `${facts.join(" ")} · `, time),
  );
}

// --- the arm, the models, the call ---------------------------------------------------------------------------------

function showAnswer(answer, clicked) {
  $("layers").replaceChildren(...answer.decision.layers.map(layerRow), headerLine(answer.decision));
  $("arm").hidden = false;
  const { rankings, candidates } = answer;
  $("call").hidden = !candidates.length;
  $("invitation").hidden = !candidates.length;
  const compared = rankings.map((ranking) => (clicked ? earlier(ranking, clicked) : reference(ranking, rankings)));
  $("models").replaceChildren(...rankings.map((ranking, place) => modelCard(ranking, compared[place])));
  $("curl").textContent = curl(answer);
  if (!candidates.length) {
    $("status").textContent = `User ${answer.user_id} has met every item: there is nothing left to rank.`;
    return;
  }
  const good = rankings.filter((ranking) => !ranking.error);
  if (clicked) {
    const moves = good.map((ranking) => moved(ranking, compared[rankings.indexOf(ranking)])).filter(Boolean);
    $("status").textContent = `User ${answer.user_id} clicked “${clicked.title}”. Ranked again: ${moves.join(", ") || "no model answered"}.`;
    return;
  }
  const took = good.map((ranking) => `${ranking.bundle} in ${ms(ranking.timings.total)}`).join(", ");
  $("status").textContent = `Ranked ${whole.format(candidates.length)} candidates for user ${answer.user_id}: ${took || "no model answered"}.`;
}

const nameOf = (ranking) => MODEL_NAMES[ranking.model] ?? ranking.model;

function moved(ranking, before) {
  if (!before) return null;
  const count = ranking.items.filter((item, place) => before.places.has(item.item_id) && before.places.get(item.item_id) !== place + 1).length;
  return `${nameOf(ranking)} moved ${whole.format(count)} of ${whole.format(ranking.items.length)} items in ${ms(ranking.timings.total)}`;
}

function layerRow(layer) {
  const variant = layer.experiment ? `${layer.experiment} : ${layer.arm}` : "no experiment";
  const places = [layer.slot === null ? null : `slot ${layer.slot}`, layer.arm_bucket === null ? null : `bucket ${layer.arm_bucket}`];
  return make(
    "div", { className: "layer" },
    chip(layer.layer, "arm-chip", "layer"),
    make("span", { className: "variant", textContent: variant }),
    make("span", { className: "muted", textContent: [`${layer.reason}: ${REASONS[layer.reason] ?? ""}`, ...places.filter(Boolean)].join(" · ") }),
  );
}

/** The header as the API sends it. */
function headerLine(decision) {
  return make("code", { className: "header-line", textContent: `X-AB-Bucket: ${decision.header}` });
}

/** The ranking that places are compared with: the other of two; of more, the one that the user's arm asks for. */
function reference(ranking, rankings) {
  const others = rankings.filter((one) => one !== ranking && !one.error);
  const other = others.length < 2 ? others[0] : ranking.own ? null : others.find((one) => one.own);
  if (!other) return null;
  return { head: "vs other", than: `in ${other.bundle}`, places: placesOf(other.items.map((item) => item.item_id)) };
}

/** The same model's list before the click, without the item that was clicked. */
function earlier(ranking, clicked) {
  const items = clicked.before.get(ranking.bundle);
  if (!items || ranking.error) return null;
  const left = new Set(ranking.items.map((item) => item.item_id));
  return { head: "since click", than: "before the click", places: placesOf(items.filter((item) => left.has(item))) };
}

const placesOf = (items) => new Map(items.map((item, place) => [item, place + 1]));

function modelCard(ranking, other) {
  const name = nameOf(ranking);
  const card = make("section", { className: ranking.own ? "card model own" : "card model" });
  card.dataset.bundle = ranking.bundle;
  const title = make("h2", {}, name, make("span", { className: "version", textContent: ` @ ${ranking.version}` }));
  card.append(make("div", { className: "model-head" }, title, ...headChips(ranking)));
  card.setAttribute("aria-label", `${name}, version ${ranking.version}${ranking.own ? ", this user's arm" : ""}`);
  if (ranking.error) {
    card.append(make("p", { className: "problem", textContent: `${ranking.error.message} (${ranking.error.code})` }));
    return card;
  }
  card.append(facts(ranking), table(ranking, other));
  return card;
}

function headChips(ranking) {
  const chips = ranking.own ? [chip("this user’s arm", "own")] : [];
  return chips.concat(ranking.degraded.map((reason) => chip(DEGRADED[reason] ?? reason, "warn", reason)));
}

function facts(ranking) {
  const box = make("div", { className: "facts" });
  const state = ranking.state_cached === null ? null : chip(ranking.state_cached ? "state from cache" : "state encoded now");
  const time = bar("Time", ms(ranking.timings.total), stages(ranking.timings), state);
  box.append(...userFacts(ranking.explanation), ...itemFacts(ranking.items), time);
  return box;
}

/** What the model says of the user: a weight for each of a few parts. */
function userFacts(explanation) {
  return Object.entries(explanation).map(([name, values]) => {
    const periods = name === "period_weights" && values.length === PERIODS.length;
    const label = (place) => (periods ? PERIODS[place] : `${place + 1}`);
    const parts = values.map((value, place) => ({ label: label(place), size: value, text: percent(value), kind: PARTS[place % PARTS.length] }));
    return bar(periods ? "Weight of each period" : name.replaceAll("_", " "), "", parts);
  });
}

/** What the model says of the items, summed up over the best ones. */
function itemFacts(items) {
  const best = items.filter((item) => item.score !== null).slice(0, SHOWN);
  return Object.keys(best[0]?.why ?? {}).map((name) => {
    const values = [...new Set(best.map((item) => item.why[name]))].sort((a, b) => a - b);
    const parts = values.map((value) => {
      const share = best.filter((item) => item.why[name] === value).length / best.length;
      return { label: `${name.replaceAll("_", " ")} ${value}`, size: share, text: percent(share), kind: kindOf(value) };
    });
    const title = name === "level" ? "Winning level" : name.replaceAll("_", " ");
    return bar(`${title} of the best ${best.length}`, "", parts);
  });
}

function stages(timings) {
  const parts = STAGES.filter((stage) => stage in timings)
    .map((stage) => ({ label: stage, size: timings[stage], text: ms(timings[stage]), kind: stage }));
  const rest = timings.total - parts.reduce((sum, part) => sum + part.size, 0);
  if (rest > 0.005) parts.push({ label: "between", size: rest, text: ms(rest), kind: "other" });
  return parts;
}

function bar(name, total, parts, note = null) {
  const drawn = parts.map((part) => {
    const span = make("span", { className: `part-${part.kind}`, title: `${part.label} ${part.text}` });
    span.style.flexGrow = Math.max(part.size, 0);
    return span;
  });
  const legend = parts.map((part) => make("li", {}, make("span", { className: `dot part-${part.kind}` }), `${part.label} ${part.text}`));
  const line = make("div", { className: "bar" }, ...drawn);
  line.setAttribute("aria-hidden", "true"); // the legend says the same in words
  const items = make("ul", { className: "legend" }, ...legend);
  items.setAttribute("aria-label", name);
  return make("div", { className: "fact" }, make("div", { className: "fact-head" }, name, note, make("strong", { textContent: total })), line, items);
}

function table(ranking, other) {
  const scores = ranking.items.map((item) => item.score).filter((score) => score !== null);
  const range = [Math.min(...scores), Math.max(...scores)];
  const body = make("tbody");
  const rows = ranking.items.map((item, place) => itemRow(item, place + 1, other, range));
  const first = rows.filter((_, place) => place < SHOWN || ranking.items[place].known !== true); // new items are always shown
  body.append(...first);
  const head = make(
    "tr", {}, column("#"), column("Item", "left"),
    other ? column(other.head, "", `places higher or lower than ${other.than}`) : null, column("Score"),
  );
  const caption = make("caption", { textContent: `Candidates in the order of ${ranking.bundle}` });
  const box = make("div", {}, make("table", {}, caption, make("thead", {}, head), body));
  if (rows.length > first.length) {
    const more = make("button", { type: "button", className: "more", textContent: `Show all ${whole.format(rows.length)}` });
    more.addEventListener("click", () => {
      body.replaceChildren(...rows);
      more.remove();
    });
    box.append(more);
  }
  return box;
}

function column(text, kind = "", title = "") {
  return make("th", { scope: "col", className: kind, textContent: text, title });
}

function itemRow(item, place, other, range) {
  const row = make("tr", {}, make("td", { className: "rank", textContent: place }), titleCell(item));
  if (other) row.append(moveCell(place, other.places.get(item.item_id), other.than));
  row.append(scoreCell(item.score, range));
  row.dataset.item = item.item_id;
  return row;
}

function titleCell(item) {
  const chips = Object.entries(item.why).map(([name, value]) => chip(`${name.replaceAll("_", " ")} ${value}`, `why mark-${kindOf(value)}`, "what explains the score"));
  if (item.known === "features") chips.push(chip("new: scored by its features", "cold"));
  if (item.known === false) chips.push(chip("new: the model does not know it", "warn"));
  const below = [item.details ? make("span", { textContent: item.details }) : null, ...chips].filter(Boolean);
  return make(
    "td", { className: "left" },
    pick(item.title),
    below.length ? make("div", { className: "sub" }, ...below) : null,
  );
}

/** An item's title, which a visitor clicks as the user. */
function pick(title) {
  const button = make("button", { type: "button", className: "title pick", textContent: title, title: "Click as this user, and rank again" });
  button.addEventListener("click", () => react(button));
  return button;
}

function moveCell(place, elsewhere, than) {
  const by = elsewhere === undefined ? 0 : elsewhere - place;
  const kind = by > 0 ? "up" : by < 0 ? "down" : "";
  const text = by > 0 ? `▲ ${by}` : by < 0 ? `▼ ${-by}` : "–";
  const words = by ? `${Math.abs(by)} places ${by > 0 ? "higher" : "lower"} than ${than}` : `the same place as ${than}`;
  const cell = make("td", { className: `move ${kind}`, textContent: text, title: words });
  cell.setAttribute("aria-label", words);
  return cell;
}

function scoreCell(score, [low, high]) {
  const cell = make("td", { className: "score-cell", textContent: score === null ? "–" : score.toFixed(3) });
  if (score === null) return cell;
  const fill = make("span");
  fill.style.width = `${high > low ? (100 * (score - low)) / (high - low) : 100}%`;
  const line = make("div", { className: "score-bar" }, fill);
  line.setAttribute("aria-hidden", "true");
  cell.append(line);
  return cell;
}

function curl(answer) {
  const body = JSON.stringify({ user_id: answer.user_id, candidates: answer.candidates, explain: true });
  const url = new URL("rank", document.baseURI.split("#")[0]);
  if (answer.rank_port !== null) url.port = answer.rank_port; // operators have a port of their own, without /rank
  return `curl -i ${url} -H 'content-type: application/json' -d '${body.replaceAll("'", "'\\''")}'`;
}

// --- events --------------------------------------------------------------------------------------------------------

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  rank();
});

$("another").addEventListener("click", async () => {
  if (!known.length || $("user").value) await suggest("").catch((error) => showProblem(error.message));
  if (!known.length) return showNobody();
  $("user").value = known[Math.floor(Math.random() * known.length)];
  return rank();
});

let typing = 0;
$("user").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => suggest($("user").value).catch(() => {}), 150); // suggestions only help
});

// The same item lights up in every column.
$("models").addEventListener("pointerover", (event) => light(event.target.closest("tr")?.dataset.item));
$("models").addEventListener("pointerleave", () => light(undefined));

function light(item) {
  for (const row of document.querySelectorAll("tbody tr")) {
    row.classList.toggle("same", item !== undefined && row.dataset.item === item);
  }
}

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("curl")); // no clipboard without https or localhost
    $("copy").textContent = "Selected";
  }
});

if (matchMedia("(max-width: 68rem)").matches) $("history").open = false;
recall();
try {
  await suggest("");
  if (!$("user").value && known.length) $("user").value = known[0];
  if ($("user").value) await rank();
  else showNobody();
} catch (error) {
  showProblem(error.message);
}

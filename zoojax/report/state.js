// The state of all controls is in the address: "#section?name=value", so that it can be shared.

/** All controls with a name, in the order of the page: those that reset others come first. */
const controls = () => [...document.querySelectorAll("main select, main input")];
const keyOf = (control) => control.id || control.name;

/** The value of a control as in the address: the text of an option, not its number. */
function valueOf(control) {
  if (control.type === "checkbox") return String(control.checked);
  return control.tagName === "SELECT" ? control.selectedOptions[0]?.text ?? "" : control.value;
}

/** The value of a control when the page is opened without a state. */
function startOf(control) {
  if (control.type === "checkbox") return "true";
  if (control.tagName === "SELECT") return control.dataset.start ?? control.options[0]?.text ?? "";
  return control.dataset.start ?? "";
}

function setValue(control, value) {
  if (valueOf(control) === value) return;
  if (control.type === "checkbox") control.checked = value === "true";
  else if (control.tagName === "SELECT") {
    const index = [...control.options].findIndex(({ text }) => text === value);
    if (index < 0) return; // From the page of another analysis.
    control.selectedIndex = index;
  } else control.value = value;
  control.dispatchEvent(new Event(control.type === "text" || control.type === "range"
    ? "input" : "change"));
}

function readAddress() {
  const [anchor, query] = location.hash.slice(1).split("?");
  return { anchor, state: new URLSearchParams(query ?? "") };
}

let anchor = "";

function writeAddress() {
  const state = new URLSearchParams();
  for (const control of controls()) {
    if (valueOf(control) !== startOf(control)) state.set(keyOf(control), valueOf(control));
  }
  const query = state.size ? `?${state}` : "";
  history.replaceState(null, "", `#${anchor}${query}`);
}

let timer;

/** Writes the address soon: browsers refuse to change it very often. */
function scheduleWrite() {
  clearTimeout(timer);
  timer = setTimeout(writeAddress, 200);
}

/** Sets all controls as in the address, or to their start. */
function restore(state) {
  // The options of a select, and the start of a slider, may depend on controls before it.
  for (const control of controls()) {
    setValue(control, state.get(keyOf(control)) ?? startOf(control));
  }
}

function scrollToAnchor() {
  if (/^[\w-]+$/.test(anchor)) $(anchor)?.scrollIntoView();
}

function makeState() {
  const start = readAddress();
  ({ anchor } = start);
  restore(start.state);
  for (const kind of ["input", "change"]) {
    document.querySelector("main").addEventListener(kind, scheduleWrite);
  }
  $("reset").addEventListener("click", () => {
    restore(new URLSearchParams());
    writeAddress();
  });
  window.addEventListener("hashchange", () => {
    const now = readAddress();
    ({ anchor } = now);
    // A link to a section has no state: it keeps that of the controls.
    if (location.hash.includes("?")) restore(now.state);
    else writeAddress();
    scrollToAnchor();
  });
  // After the figures have their heights.
  requestAnimationFrame(() => requestAnimationFrame(scrollToAnchor));
}

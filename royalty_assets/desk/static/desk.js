// Keys for those who decide all day. Every page works without.
const rows = [...document.querySelectorAll("tr[data-row]")];
let here = -1;

function move(step) {
  if (!rows.length) return;
  rows[here]?.classList.remove("here");
  here = Math.min(Math.max(here + step, 0), rows.length - 1);
  rows[here].classList.add("here");
  rows[here].querySelector("a").focus();
}

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=checkbox]), select, textarea");
  if (isTyping) {
    if (event.key === "Escape") event.target.blur();
    if (event.key === "Enter" && event.target.matches("input[type=date]")) {
      event.preventDefault();
      event.target.form.querySelector("[value=defer]")?.click();
      document.querySelector(`[form="${event.target.form.id}"][value=defer]`)?.click();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const marked = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "x" && here >= 0) rows[here].querySelector("input").click();
  else if (event.key === "/") document.getElementById("search")?.focus();
  else if (marked) {
    const day = marked.value === "defer" && marked.form.querySelector("input[type=date]");
    if (day && !day.value) day.focus();
    else marked.click();
  } else return;
  event.preventDefault();
});

document.getElementById("all")?.addEventListener("change", (event) => {
  for (const box of document.querySelectorAll("input[name=subject]")) box.checked = event.target.checked;
});

// The name that stands in the page is the one that decides, saved or not.
for (const form of document.querySelectorAll("form[method=post]")) {
  form.addEventListener("submit", () => {
    const typed = document.createElement("input");
    typed.type = "hidden";
    typed.name = "who_typed";
    typed.value = document.getElementById("who").value;
    form.append(typed);
  });
}

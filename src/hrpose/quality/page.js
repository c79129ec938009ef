"use strict";
const persons = [...document.querySelectorAll("article")];
const SIZE = 6;
const last = Math.max(0, Math.ceil(persons.length / SIZE) - 1);
let page = 0;

function show(wanted) {
  page = Math.min(Math.max(wanted, 0), last);
  persons.forEach((person, index) => { person.hidden = Math.floor(index / SIZE) !== page; });
  document.getElementById("page").value = `page ${page + 1} of ${last + 1}`;
  document.getElementById("previous").disabled = page === 0;
  document.getElementById("next").disabled = page === last;
}

document.querySelector("nav").hidden = last === 0;
document.getElementById("previous").addEventListener("click", () => show(page - 1));
document.getElementById("next").addEventListener("click", () => show(page + 1));
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const to = { ArrowLeft: page - 1, ArrowRight: page + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  show(to);
});
show(0);

"use strict";
const people = [...document.querySelectorAll("article")];
const SIZE = 6;
const last = Math.max(0, Math.ceil(people.length / SIZE) - 1);
let page = 0;

function show(wanted) {
  page = Math.min(Math.max(wanted, 0), last);
  people.forEach((person, index) => { person.hidden = Math.floor(index / SIZE) !== page; });
  document.getElementById("place").value = `page ${page + 1} of ${last + 1}`;
  document.getElementById("back").disabled = page === 0;
  document.getElementById("on").disabled = page === last;
}

document.querySelector("nav").hidden = last === 0;
document.getElementById("back").addEventListener("click", () => show(page - 1));
document.getElementById("on").addEventListener("click", () => show(page + 1));
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const to = { ArrowLeft: page - 1, ArrowRight: page + 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  show(to);
});
show(0);

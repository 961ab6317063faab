"use strict";

const MOST_MESSAGES = 50;

/** Show a socket's state in #state. */
function showState(socket) {
  const show = () => {
    const text = { open: "live", closed: "closed" }[socket.state] || "connecting";
    const state = document.getElementById("state");
    state.textContent = text;
    state.dataset.state = text;
  };
  for (const type of ["open", "close", "reconnecting"]) socket.addEventListener(type, show);
}

/** Show a socket's state, and its messages in #messages, the newest on top. */
function showSocket(socket) {
  showState(socket);
  socket.addEventListener("message", (event) => {
    const text = typeof event.data === "string" ? event.data : `${event.data.byteLength} bytes`;
    addItem(text, event.id ? Number(event.id.split("-")[0]) : Date.now());
  });
  socket.addEventListener("gap", showGap);
  // What the view has put into the page has its time for a machine, and is shown that of the visitor's own zone.
  for (const item of document.querySelectorAll("#messages [data-sent]")) item.dataset.time = clock(item.dataset.sent);
}

function clock(time) {
  return new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

function addItem(text, time = Date.now()) {
  const item = document.createElement("li");
  item.dataset.time = clock(time);
  item.textContent = text; // never innerHTML: others wrote it
  const messages = document.getElementById("messages");
  messages.prepend(item);
  while (messages.children.length > MOST_MESSAGES) messages.lastChild.remove();
  return item;
}

/** Say that something is missing: once, even if it is so on several channels. */
function showGap() {
  const newest = document.querySelector("#messages li");
  if (!newest?.classList.contains("gap")) addItem("Some messages may be missing here.").className = "gap";
}

/** Count in #counter what comes live, or was missed; not what was there before. */
function countMessages(socket) {
  const counter = document.getElementById("counter");
  const count = () => { counter.textContent = Number(counter.textContent) + 1; };
  socket.addEventListener("subscribed", () => socket.addEventListener("message", count)); // the same one is added once
}

/** Send what #text holds through the websocket. */
function sendWithSocket(socket) {
  onSubmit((form, text) => {
    try {
      socket.send(text.value);
    } catch {
      throw notOpen(socket);
    }
    text.value = "";
    showNote("");
  });
}

function notOpen(socket) {
  return new Error(socket.state === "closed" ? "Please reload the page." : "The connection is down, try again soon.");
}

/** Send the form to its Django view, which publishes it. */
function sendWithFetch() {
  onSubmit(async (form, text) => {
    const response = await fetch(form.action, { method: "POST", body: new FormData(form) });
    if (response.redirected) throw new Error("Please log in again.");
    if (!response.ok) throw new Error(await errorText(response));
    text.value = "";
    showNote(await response.text());
  });
}

async function errorText(response) {
  const isShort = response.headers.get("Content-Type").startsWith("text/plain");
  return isShort ? response.text() : `The server answered ${response.status}.`;
}

function onSubmit(send) {
  const form = document.getElementById("form");
  const text = document.getElementById("text");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await send(form, text);
    } catch (error) {
      showNote(`Not sent. ${error.message}`, true);
    }
    text.focus();
  });
}

function showNote(text, isError = false) {
  const note = document.getElementById("note");
  note.textContent = text;
  note.classList.toggle("error", isError);
}

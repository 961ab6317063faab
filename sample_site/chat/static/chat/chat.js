"use strict";

const MOST_MESSAGES = 50;

/** Show a socket's state in #state, and its messages in #messages, the newest on top. */
function showSocket(socket) {
  let repeatsUntil = 0;
  const showState = () => {
    const text = { open: "live", closed: "closed" }[socket.state] || "connecting";
    const state = document.getElementById("state");
    state.textContent = text;
    state.dataset.state = text;
  };
  for (const type of ["open", "close", "reconnecting"]) socket.addEventListener(type, showState);
  // Who comes back is at once sent the last message again, if it is kept (EXPIRE in the settings).
  socket.addEventListener("open", (event) => {
    if (event.detail.reconnect) repeatsUntil = Date.now() + 1000;
  });
  socket.addEventListener("message", (event) => {
    const text = typeof event.data === "string" ? event.data : `${event.data.byteLength} bytes`;
    const newest = document.querySelector("#messages li");
    const isRepeat = Date.now() < repeatsUntil && newest && newest.textContent === text;
    repeatsUntil = 0;
    if (!isRepeat) showMessage(text);
  });
}

function showMessage(text) {
  const item = document.createElement("li");
  item.textContent = text; // never innerHTML: others wrote it
  item.dataset.time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  const messages = document.getElementById("messages");
  messages.prepend(item);
  while (messages.children.length > MOST_MESSAGES) messages.lastChild.remove();

  const counter = document.getElementById("counter");
  if (counter) counter.textContent = Number(counter.textContent) + 1;
}

/** Send what #text holds through the websocket. */
function sendWithSocket(socket) {
  onSubmit((form, text) => {
    socket.send(text.value);
    text.value = "";
    showNote("");
  });
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

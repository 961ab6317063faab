"use strict";

const STILL_HERE = 60 * 1000; // milliseconds; after how many somebody is gone who does not say so, chat/models.py has

/** Show what a room's socket says, and send what is written: all of it JSON, as RoomForm and Room have it. */
function showRoom(socket) {
  const form = document.getElementById("form");
  remember(form);

  const send = (text = "") => {
    const { name, color } = Object.fromEntries(new FormData(form));
    socket.send({ name, color, text });
  };
  socket.addEventListener("open", () => {
    document.getElementById("messages").replaceChildren(); // those that are kept come again
    send(); // who is here
  });
  socket.addEventListener("message", (event) => {
    let message;
    try {
      message = event.json();
    } catch { // a text for all: ./manage.py wsbroadcast "hello"
      addItem(event.data);
      return;
    }
    if (message.errors) {
      showErrors(form, message.errors);
      if (Object.keys(message.errors).length === 0) form.text.value = ""; // it was said
    } else if (message.guests) {
      showGuests(message.guests);
    } else {
      showMessage(message);
    }
  });
  const sendIfOpen = () => { if (socket.state === "open") send(); };
  setInterval(sendIfOpen, STILL_HERE);
  for (const input of [form.name, ...form.color]) {
    input.addEventListener("change", () => {
      showErrors(form, {});
      sendIfOpen();
    });
  }
  onSubmit(() => {
    if (!form.text.value.trim()) return;
    showErrors(form, {});
    try {
      send(form.text.value);
    } catch {
      throw notOpen(socket);
    }
  });
}

/** Keep the name and the colour of this window when the page is opened again. */
function remember(form) {
  form.name.value ||= sessionStorage.name || `Guest ${Math.floor(Math.random() * 900) + 100}`;
  const colors = [...form.color];
  const color = colors.find((input) => input.value === sessionStorage.color);
  (color || colors[Math.floor(Math.random() * colors.length)]).checked = true;
  form.addEventListener("change", () => Object.assign(sessionStorage, { name: form.name.value, color: form.color.value }));
  form.dispatchEvent(new Event("change"));
}

function showMessage({ name, color, text, event, time }) {
  const item = addItem("", time);
  if (event) item.className = "event";
  const who = document.createElement("b");
  who.textContent = name; // never innerHTML: others wrote it
  who.dataset.color = color;
  const what = document.createElement("span");
  what.textContent = event || text;
  item.append(who, what);
}

function showGuests(guests) {
  document.getElementById("guests").replaceChildren(...guests.map(({ name, color }) => {
    const item = document.createElement("li");
    item.textContent = name;
    item.dataset.color = color;
    return item;
  }));
}

/** Show the form's errors beside its fields; those of no field in the note. */
function showErrors(form, errors) {
  const text = (name) => (errors[name] || []).map((error) => error.message).join(" ");
  for (const name of ["name", "color", "text"]) {
    document.getElementById(`${name}-error`).textContent = text(name);
    if (name !== "color") form[name].setAttribute("aria-invalid", name in errors);
  }
  showNote(text("__all__"), "__all__" in errors);
}

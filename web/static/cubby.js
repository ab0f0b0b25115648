// Everything works without this file. It adds copying, closing of menus, and waiting for the first push.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  const status = document.getElementById("status");
  const say = (text) => { if (status) status.textContent = text; };

  // A page on plain HTTP has no clipboard; the old way works there.
  const copyText = async (text) => {
    if (navigator.clipboard && window.isSecureContext) {
      try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way then */ }
    }
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hide";
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    const before = document.activeElement;
    area.select();
    let ok = false;
    try { ok = document.execCommand("copy"); } catch { ok = false; }
    area.remove();
    if (before instanceof HTMLElement) before.focus({ preventScroll: true });
    return ok;
  };

  document.addEventListener("click", async (event) => {
    const target = event.target instanceof Element ? event.target : null;
    if (!target) return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(target)) menu.open = false;
    }
    const button = target.closest("button[data-copy]");
    if (!button) return;
    if (await copyText(button.dataset.copy)) {
      say("Copied");
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    } else {
      say("The browser did not allow copying");
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  const waiting = document.getElementById("waiting");
  if (waiting) {
    waiting.textContent = "Waiting for the first push…";
    const look = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch(location.pathname, { cache: "no-store" });
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const first = page.querySelector("a.repo");
        if (!first) return;
        clearInterval(timer);
        const link = document.createElement("a");
        link.href = first.getAttribute("href");
        link.textContent = first.textContent;
        waiting.replaceChildren("It has arrived: ", link);
      } catch { /* the server is away; the next look may find it */ }
    };
    const timer = setInterval(look, 3000);
  }
})();

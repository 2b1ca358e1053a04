// Clusters in JupyterLab and Notebook 7: a card in the launcher, a command, a menu entry, and a
// status-bar item with what runs and a stop.
//
// Written by hand in the form that a builder would write: JupyterLab calls `init` with the modules
// that it shares, and `get` for the plugin.  So nothing has to be built, and nothing is bundled.
"use strict";

(() => {
  const PERIOD = 10_000; // milliseconds between two looks, as long as somebody may see the answer
  const LANES = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24">
    <g class="jp-icon3" fill="#616161"><rect x="3" y="4" width="10" height="4" rx="1"/>
    <rect x="14" y="4" width="7" height="4" rx="1"/><rect x="3" y="10" width="6" height="4" rx="1"/>
    <rect x="10" y="10" width="11" height="4" rx="1"/><rect x="3" y="16" width="14" height="4" rx="1"/>
    </g></svg>`;
  let shared = {};

  // A module that JupyterLab shares, or an empty one where this application has none.
  async function module(name) {
    const versions = Object.values(shared[name] ?? {});
    return versions.length ? (await versions[0].get())() : {};
  }

  async function makePlugin() {
    const [apputils, launcher, menus, status, services, core, ui, widgets] = await Promise.all([
      "@jupyterlab/apputils", "@jupyterlab/launcher", "@jupyterlab/mainmenu", "@jupyterlab/statusbar",
      "@jupyterlab/services", "@jupyterlab/coreutils", "@jupyterlab/ui-components", "@lumino/widgets",
    ].map(module));
    const wanted = {
      palette: apputils.ICommandPalette, launcher: launcher.ILauncher,
      menu: menus.IMainMenu, bar: status.IStatusBar,
    };
    const names = Object.keys(wanted).filter((name) => wanted[name]);
    return {
      id: "ipyasyncresult:clusters",
      description: "Clusters of ipyasyncresult: where they are shown, and a stop.",
      autoStart: true,
      optional: names.map((name) => wanted[name]),
      activate: (app, ...found) => {
        const places = Object.fromEntries(names.map((name, index) => [name, found[index]]));
        activate(app, places, { apputils, services, core, ui, widgets });
      },
    };
  }

  function activate(app, places, { apputils, services, core, ui, widgets }) {
    const settings = app.serviceManager.serverSettings;
    const base = core.URLExt.join(settings.baseUrl, "ipyasyncresult");

    async function ask(path, method = "GET", body = undefined) {
      const init = { method, ...(body && { body: JSON.stringify(body) }) };
      const url = core.URLExt.join(base, "api", path);
      const answer = await services.ServerConnection.makeRequest(url, init, settings);
      const data = await answer.json();
      if (!answer.ok) throw new services.ServerConnection.ResponseError(answer, data.message);
      return data;
    }

    const refused = (error) => apputils.showErrorMessage("Clusters", error);

    async function stop(id) {
      const { Dialog } = apputils;
      const sure = await apputils.showDialog({
        title: `Stop cluster ${id}?`,
        body: "Its engines end, and with them what they run.",
        buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: "Stop" })],
      });
      if (sure.button.accept) await ask(`clusters/${id}`, "DELETE");
    }

    async function interrupt(id) {
      const { engines } = await ask(`clusters/${id}`);
      await ask(`clusters/${id}/interrupt`, "POST", { engines: engines.map((one) => one.engine_id) });
    }

    const open = "ipyasyncresult:open";
    const icon = ui.LabIcon && new ui.LabIcon({ name: "ipyasyncresult:clusters", svgstr: LANES });
    app.commands.addCommand(open, {
      label: ({ cluster }) => (cluster ? `Show ${cluster}` : "Clusters"),
      icon: ({ isPalette, cluster }) => (isPalette || cluster ? undefined : icon),
      caption: "Clusters of ipyasyncresult: engines, tasks, results",
      execute: ({ cluster }) => {
        window.open(cluster ? `${base}#${encodeURIComponent(cluster)}` : base, "_blank", "noopener");
      },
    });
    app.commands.addCommand("ipyasyncresult:interrupt", {
      label: ({ cluster }) => `Interrupt what ${cluster} runs`,
      execute: ({ cluster }) => interrupt(cluster).catch(refused),
    });
    app.commands.addCommand("ipyasyncresult:stop", {
      label: ({ cluster }) => `Stop ${cluster} …`,
      execute: ({ cluster }) => stop(cluster).catch(refused),
    });

    places.launcher?.add({ command: open, category: "Other", rank: 50 });
    places.palette?.addItem({ command: open, category: "Parallel work", args: { isPalette: true } });
    // Notebook 7 shows no Run menu where it lists files; its View menu is everywhere.
    const menu = app.name === "Jupyter Notebook" ? places.menu?.viewMenu : places.menu?.runMenu;
    menu?.addGroup([{ command: open }], 1000);
    if (!places.bar) return;

    const item = new widgets.Widget({ node: document.createElement("button") });
    item.id = "ipyasyncresult-clusters";
    item.addClass("jp-mod-highlighted");
    Object.assign(item.node, { type: "button", title: "Clusters of ipyasyncresult" });
    item.node.style.cssText = "border: 0; background: none; color: inherit; font: inherit; cursor: pointer";
    let clusters = [];
    item.node.addEventListener("click", async () => {
      clusters = await ask("clusters").catch(() => clusters); // as it is now
      const menu = new widgets.Menu({ commands: app.commands });
      for (const { cluster_id: cluster } of clusters) {
        for (const what of ["open", "interrupt", "stop"]) {
          menu.addItem({ command: `ipyasyncresult:${what}`, args: { cluster } });
        }
        menu.addItem({ type: "separator" });
      }
      menu.addItem({ command: open });
      const { left, top } = item.node.getBoundingClientRect();
      menu.open(left, top);
    });
    places.bar.registerStatusItem("ipyasyncresult:clusters", {
      item, align: "left", rank: 50, isActive: () => clusters.length > 0,
    });

    async function look() {
      if (!document.hidden) {
        try {
          clusters = await ask("clusters");
        } catch (error) {
          if (error.response?.status === 404) return; // this server has no such routes
          clusters = []; // it is busy, or restarts: nothing to show until it answers again
        }
        const text = clusters.length === 1 ? clusters[0].cluster_id : `${clusters.length} clusters`;
        item.node.textContent = clusters.length ? `Engines: ${text}` : "";
        item.setHidden(!clusters.length);
      }
      setTimeout(look, PERIOD);
    }
    look();
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB.ipyasyncresult = {
    init: (scope) => { shared = scope; },
    get: async (name) => {
      if (name !== "./extension") throw new Error(`ipyasyncresult has no module ${name}`);
      const plugin = await makePlugin();
      return () => ({ __esModule: true, default: plugin });
    },
  };
})();

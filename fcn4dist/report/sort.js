// Makes the tables of class "sortable" sort by a click on a heading; without it they stay as they are.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    if (heading.hasAttribute("data-plain")) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const isNumber = heading.classList.contains("num");
      const before = heading.getAttribute("aria-sort");
      const isDown = before === null ? isNumber : before === "ascending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", isDown ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === ""); // what has no value stays last
        const order = isNumber ? Number(x) - Number(y) : x.localeCompare(y);
        return isDown ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

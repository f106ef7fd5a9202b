"""A generated export of a shop: one CSV file of views, carts and purchases, with the facts of each product in its rows.

A customer has two favourite shelves and a brand, looks at several products of one shelf in a visit, and often buys
again what is used up. `python -m tests.support.shop_log FOLDER` writes `orders.csv`.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Final

import numpy as np

START_S: Final = 1_740_960_000  # 2025-03-03T00:00:00Z
SHELVES: Final = ("coffee", "tea", "pasta", "cheese", "fruit", "soap", "paper", "wine")
BRANDS: Final = ("Alba", "Brio", "Calla", "Dorn", "Elm")
LABELS: Final = ("organic", "sale", "local", "new")
COLUMNS: Final = ("customer", "sku", "at", "event", "shelf", "brand", "price", "labels")
_PRODUCTS, _DAYS, _VISITS, _LOOKS = 240, 28, 14, 5


def write_shop(path: Path, customers: int = 400, seed: int = 5) -> int:
    """Write the export, ordered by time; returns the number of rows."""
    rng = np.random.default_rng(seed)
    products = [
        (
            SHELVES[place % len(SHELVES)],
            BRANDS[int(rng.integers(len(BRANDS)))],
            f"{rng.lognormal(1.2, 0.6):.2f}",
            ";".join(label for label in LABELS if rng.random() < 0.2),
        )
        for place in range(_PRODUCTS)
    ]
    rows = sorted(row for customer in range(customers) for row in _customer(rng, customer, products))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((f"c{who}", f"sku-{sku}", at, event, *products[sku]) for at, who, sku, event in rows)
    return len(rows)


def _customer(
    rng: np.random.Generator, customer: int, products: list[tuple[str, str, str, str]]
) -> list[tuple[int, int, int, str]]:
    """Return (time, customer, product, event) of all visits of one customer."""
    shelves, brand = rng.choice(len(SHELVES), size=2, replace=False), BRANDS[int(rng.integers(len(BRANDS)))]
    rows: list[tuple[int, int, int, str]] = []
    bought: list[int] = []
    for _ in range(int(rng.poisson(_VISITS))):
        at = START_S + int(rng.integers(_DAYS * 86_400))
        shelf = int(rng.choice(shelves)) if rng.random() < 0.85 else int(rng.integers(len(SHELVES)))
        looked = rng.choice(np.arange(shelf, _PRODUCTS, len(SHELVES)), size=_LOOKS, replace=False).tolist()
        if bought and rng.random() < 0.5:
            looked.append(bought[int(rng.integers(len(bought)))])
        for step, sku in enumerate(looked):
            likes = 0.1 + 0.4 * (products[sku][1] == brand) + 0.4 * (sku in bought)
            rows.append((at + 40 * step, customer, sku, "view"))
            if rng.random() < likes:
                rows.append((at + 40 * step + 15, customer, sku, "add_to_cart"))
                if rng.random() < 0.6:
                    rows.append((at + 40 * _LOOKS + 90, customer, sku, "purchase"))
                    bought.append(sku)
    return rows


def main() -> None:
    """Write `orders.csv` into a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.shop_log", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    print(f"written: {folder / 'orders.csv'}, {write_shop(folder / 'orders.csv'):,} rows")


if __name__ == "__main__":
    main()

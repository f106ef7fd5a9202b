"""Writes small models of RecBole with their weights and scores. Runs in RecBole's environment.

ENV/bin/python benchmarks/recbole/models_fixture.py > tests/unit/models/recbole_models.json

Our models load these weights in tests/unit/models/test_recbole_models.py and must score the same.
"""

import json
from collections import defaultdict

import torch
from recbole.utils import get_model

SEED, ITEMS, USERS, LENGTH = 20_251_121, 30, 10, 8
SIZES = {
    "GRU4Rec": {"embedding_size": 16, "hidden_size": 24, "num_layers": 1, "dropout_prob": 0.3, "loss_type": "CE"},
    "SASRec": {
        "n_layers": 2, "n_heads": 2, "hidden_size": 16, "inner_size": 32, "hidden_act": "gelu", "loss_type": "CE",
        "hidden_dropout_prob": 0.2, "attn_dropout_prob": 0.2, "layer_norm_eps": 1e-12, "initializer_range": 0.02,
    },
    "FPMC": {"embedding_size": 16, "loss_type": "BPR"},
    "BPR": {"embedding_size": 16},
}  # fmt: skip
LENGTHS = [LENGTH, LENGTH, 5, 1]


class Counts:
    """The part of a data set that a model uses; padding counts as one more."""

    user_num, item_num = USERS + 1, ITEMS + 1

    def num(self, field):
        """Return the number of users or items."""
        return self.user_num if field == "user_id" else self.item_num


def main():
    """Print the fixture."""
    torch.manual_seed(SEED)
    items = torch.zeros(len(LENGTHS), LENGTH, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        items[row, :length] = torch.randint(1, ITEMS + 1, (length,))  # RecBole pads at the right
    users, targets = torch.randint(1, USERS + 1, (len(LENGTHS),)), torch.randint(1, ITEMS + 1, (len(LENGTHS),))
    negatives = targets % ITEMS + 1
    batch = {
        "user_id": users, "item_id": targets, "neg_item_id": negatives, "item_id_list": items,
        "item_length": torch.tensor(LENGTHS),
    }  # fmt: skip
    found = {}
    for name, sizes in SIZES.items():
        config = defaultdict(lambda: None, sizes)
        config |= {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "NEG_PREFIX": "neg_"}
        config |= {"LIST_SUFFIX": "_list", "ITEM_LIST_LENGTH_FIELD": "item_length", "MAX_ITEM_LIST_LENGTH": LENGTH}
        config |= {"device": torch.device("cpu")}
        model = get_model(name)(config, Counts()).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_((weight + 0.3 * torch.randn(weight.shape)).half())  # short to write, exact to read
            scores = model.full_sort_predict(batch).view(len(LENGTHS), -1)
            loss = float(model.calculate_loss(batch))
        weights = {key: weight.tolist() for key, weight in model.state_dict().items()}
        found[name] = {"sizes": sizes, "weights": weights, "scores": scores.tolist(), "loss": loss}
    command = "ENV/bin/python benchmarks/recbole/models_fixture.py > tests/unit/models/recbole_models.json"
    about = {"made_by": "RecBole 1.2.1", "command": command, "seed": SEED, "items": ITEMS, "users": USERS}
    rows = {"user": users.tolist(), "target": targets.tolist(), "negative": negatives.tolist()}
    rows["history"] = [row[:length].tolist() for row, length in zip(items, LENGTHS, strict=True)]
    print(json.dumps(about | {"length": LENGTH, "rows": rows, "models": found}))


if __name__ == "__main__":
    main()

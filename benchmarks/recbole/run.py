"""Trains RecBole's model by one of our recipes. Runs in RecBole's environment and imports none of our code.

OMP_NUM_THREADS=1 ENV/bin/python run.py recipes/sasrec.toml --seed 0 --atomic ATOMIC --out results

The recipe is translated key by key; a key without a translation is an error, so that both
sides have the same features.
"""

import argparse
import json
import os
import tempfile
import time
import tomllib
import warnings
from pathlib import Path

os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # its checkpoints contain its config, which newer torch refuses
warnings.filterwarnings("ignore")

import torch  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.utils import get_model, get_trainer, init_seed  # noqa: E402

NAMES = {"gru4rec": "GRU4Rec", "sasrec": "SASRec", "fpmc": "FPMC", "bpr": "BPR"}
_SIZES = {
    "gru4rec": {"width": "embedding_size", "hidden": "hidden_size", "dropout": "dropout_prob"},
    "sasrec": {"width": "hidden_size", "blocks": "n_layers", "heads": "n_heads", "inner": "inner_size"},
    "fpmc": {"width": "embedding_size"},
    "bpr": {"width": "embedding_size"},
}


def settings(recipe, atomic, scratch):
    """Return RecBole's settings for one of our recipes."""
    config, training, name = dict(recipe["config"]), dict(recipe["training"]), recipe["model"]
    assert not config.pop("popularity_bias"), "RecBole's models have no item bias"
    assert not training.pop("balanced"), "RecBole draws no balanced rows"
    assert not training.pop("clip"), "RecBole does not clip unless told to"
    length, objective = config.pop("length"), config.pop("objective", "full")
    found = {"loss_type": {"full": "CE", "bpr": "BPR"}[objective]}
    if name == "sasrec":
        found |= {"hidden_act": "gelu", "hidden_dropout_prob": config["dropout"]}
        found["attn_dropout_prob"] = config.pop("dropout")
    found |= {_SIZES[name][key]: value for key, value in config.items()}
    negatives = training.pop("negatives", 0)
    found["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": negatives} if negatives else None
    found |= {
        "epochs": training.pop("epochs"),
        "train_batch_size": training.pop("batch"),
        "learning_rate": training.pop("learning_rate"),
    }
    assert not training, f"no translation of {training}"
    return found | {
        "MAX_ITEM_LIST_LENGTH": max(length, 2),
        "data_path": str(atomic),
        "checkpoint_dir": str(scratch),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "TIME_FIELD": "timestamp",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "repeatable": True,  # for BPR too: history items stay candidates, and negatives are any item but the target
        "metrics": ["Hit", "NDCG", "MRR"],
        "topk": [10, 20],
        "valid_metric": "NDCG@10",
        "metric_decimal_place": 6,
        "stopping_step": 1000,
        "eval_batch_size": 1_000_000 if name == "bpr" else 512,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }


def build(recipe, seed, atomic, scratch):
    """Return RecBole's config, data for training, validation and test, and model."""
    found = settings(recipe, atomic, scratch) | {"seed": seed}
    config = Config(model=NAMES[recipe["model"]], dataset=recipe["dataset"] + "-cut", config_dict=found)
    init_seed(seed, config["reproducibility"])
    data = data_preparation(config, create_dataset(config))
    init_seed(seed, config["reproducibility"])
    return config, data, get_model(config["model"])(config, data[0]._dataset)


def speed(config, train, model, steps):
    """Return rows per second of wall clock and of processor time, of `steps` training steps after five others."""
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    seen = []

    def counted(batch):
        seen.append((time.perf_counter(), time.process_time()))
        if len(seen) == steps + 6:
            raise StopIteration
        return model.calculate_loss(batch)

    try:
        trainer._train_epoch(train, 0, loss_func=counted)
    except StopIteration:
        rows = steps * config["train_batch_size"]
        return [rows / (last - first) for first, last in zip(seen[5], seen[-1], strict=True)]
    raise SystemExit(f"an epoch has fewer than {steps + 6} steps")


def main():
    """Train, select the epoch by validation NDCG@10, write test metrics."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the recipe's own")
    parser.add_argument("--atomic", type=Path, required=True, help="folder that benchmarks.recbole.atomic wrote")
    parser.add_argument("--out", type=Path, help="folder whose runs.jsonl gets one more line")
    parser.add_argument("--length", type=int, help="instead of the recipe's own")
    parser.add_argument("--batch", type=int, help="instead of the recipe's own")
    parser.add_argument("--speed", type=int, metavar="STEPS", help="time training steps instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = tomllib.loads(options.recipe.read_text())
    recipe["training"]["epochs"] = options.epochs or recipe["training"]["epochs"]
    recipe["training"]["batch"] = options.batch or recipe["training"]["batch"]
    recipe["config"]["length"] = options.length or recipe["config"]["length"]
    scratch = Path(tempfile.mkdtemp())
    out, atomic = Path(options.out or ".").resolve(), options.atomic.resolve()
    os.chdir(scratch)  # it writes logs to the working directory
    config, (train, valid, test), model = build(recipe, options.seed, atomic, scratch)
    if options.speed:
        print(json.dumps(speed(config, train, model, options.speed)))
        return
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    started, curve = time.process_time(), []
    trainer.fit(
        train,
        valid,
        verbose=False,
        callback_fn=lambda epoch, score: (
            curve.append(round(score, 6)),
            print(f"{recipe['model']} {epoch + 1} {score:.4f} {time.process_time() - started:.0f} s", flush=True),
        ),
    )
    metrics = {name: float(value) for name, value in trainer.evaluate(test).items()}
    document = {
        "side": "RecBole 1.2.1",
        "model": recipe["model"],
        "seed": options.seed,
        "rows": len(train._dataset),
        "recipe": recipe,
        "test": {"hr@10": metrics["hit@10"], "ndcg@10": metrics["ndcg@10"], "mrr@20": metrics["mrr@20"]},
        "valid_ndcg@10": curve,
        "best_epoch": 1 + curve.index(max(curve)),
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    out.mkdir(parents=True, exist_ok=True)
    with (out / "runs.jsonl").open("a") as lines:
        lines.write(json.dumps(document) + "\n")
    print(document["test"])


if __name__ == "__main__":
    main()

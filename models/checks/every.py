"""Every check by name, and their run on one model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Literal, NamedTuple

from contract.command_line import one_line
from models.checks import growing, learning, scoring
from models.checks.subject import NotApplicableError, Subject

Outcome = Literal["passed", "failed", "not applicable"]
Check = Callable[[Subject], None]

CHECKS: Final[tuple[Check, ...]] = (
    scoring.state_scores_and_explanations_have_the_promised_shapes,
    scoring.scores_of_any_history_are_finite,
    scoring.score_all_equals_score,
    scoring.lists_of_candidates_score_as_each_candidate_does,
    scoring.other_rows_of_a_batch_do_not_change_the_scores_of_a_row,
    scoring.other_candidates_do_not_change_the_score_of_a_candidate,
    scoring.a_longer_history_than_the_model_reads_scores_as_its_newest_part,
    scoring.the_content_of_padding_never_reaches_a_score,
    scoring.more_padding_does_not_change_scores,
    scoring.evaluation_is_repeatable_to_the_bit,
    scoring.a_checkpoint_gives_the_same_scores,
    learning.training_does_not_see_events_after_the_request,
    learning.every_weight_that_learns_gets_a_gradient,
    learning.impressions_can_be_learnt_too,
    learning.the_loss_counts_each_row_by_its_weight,
    learning.ten_users_can_be_learnt_by_heart,
    growing.old_items_have_the_scores_of_yesterday_after_a_warm_start,
    growing.new_items_and_users_have_rows_and_finite_scores_after_a_warm_start,
    growing.tables_grow_by_rows_and_keep_those_of_yesterday,
    growing.a_new_candidate_scores_as_the_item_without_interactions_that_has_its_features,
    growing.a_new_item_in_a_history_reads_as_the_item_without_interactions_that_has_its_features,
    growing.the_row_that_training_never_moved_does_not_reach_a_score,
)


class Result(NamedTuple):
    """The outcome of one check.

    Attributes:
        sentence: the promise.
        outcome: whether the model keeps it.
        reason: why not, or why it was not checked.
    """

    sentence: str
    outcome: Outcome
    reason: str = ""


def run_checks(subject: Subject) -> Iterator[Result]:
    """Run every check on a model, one after the other."""
    for check in CHECKS:
        yield run_check(check, subject)


def run_check(check: Check, subject: Subject) -> Result:
    """Run one check; any error of the model's own code fails it."""
    sentence = check.__name__.replace("_", " ")
    try:
        check(subject)
    except NotApplicableError as error:
        return Result(sentence, "not applicable", str(error))
    except Exception as error:  # the code of someone else, which may raise any error
        return Result(sentence, "failed", one_line(f"{type(error).__name__}: {error}")[:500])
    return Result(sentence, "passed")

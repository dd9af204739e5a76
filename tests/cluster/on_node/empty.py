"""What Prometheus does not see in the quickstart on a node, and why."""

SILENCE = "no alert fires"
FAULTLESS = "no step fails"
DENSE = "the student is no mixture of experts"
PEAK = "the peak of a processor is not known"
NO_DEADLINE = "the run has no deadline"
NO_QUEUE = "there is no Kueue"
ONE_ARM = "the run has one arm, which is compared with nothing"
NOT_CACHED = "every step is carried out"
SHORT = "the operator asks every 15 s how far pods are, and steps here may be done before"
IDLE = "pods of an idle node hardly wait"
NO_ROUNDS = "the run has no Rollout stage"
REFUSALS = "only told once figures of a pod were refused"

EMPTY = {
    "recording ixt:failed_attempts:sum": FAULTLESS,
    "ixt / Fleet: Alerts that fire A": SILENCE,
    "ixt / Fleet: Failed attempts by class A": FAULTLESS,
    "ixt / Fleet: Steps that fail most A": FAULTLESS,
    "ixt / Run: Alerts that fire A": SILENCE,
    "ixt / Run: Deadline in A": NO_DEADLINE,
    "ixt / Run: Progress of steps F": NO_DEADLINE,
    "ixt / Run: Progress of steps G": FAULTLESS,
    "ixt / Run: Loss B": DENSE,
    "ixt / Run: MFU A": PEAK,
    "ixt / Run: Gain at equal FLOPs A": ONE_ARM,
    "ixt / Run: FLOPs saved A": NOT_CACHED,
    "ixt / Run: Failed attempts A": FAULTLESS,
    "ixt / Run: Failed attempts by step A": FAULTLESS,
    "ixt / Run: Place in the queue A": NO_QUEUE,
    "ixt / Run: Round A": NO_ROUNDS,
    "ixt / Run: Round B": NO_ROUNDS,
    "ixt / Run: Time left in rounds A": NO_ROUNDS,
    "ixt / Run: Right answers A": NO_ROUNDS,
    "ixt / Run: Held-out prompts solved A": NO_ROUNDS,
    "ixt / Run: Answers by verdict A": NO_ROUNDS,
    "ixt / Run: Judge against verifier A": NO_ROUNDS,
    "ixt / Run: Judge against verifier B": NO_ROUNDS,
    "ixt / Run: Judge against verifier C": NO_ROUNDS,
    "ixt / Run: Prompts A": NO_ROUNDS,
    "ixt / Run: Samples A": NO_ROUNDS,
    "ixt / Run: Prompts whose answers are all alike A": NO_ROUNDS,
    "ixt / Run: Tokens of the policy A": NO_ROUNDS,
    "ixt / Run: Requests to the policy A": NO_ROUNDS,
    "ixt / Run: Requests to the policy B": NO_ROUNDS,
    "ixt / Run: annotation Alerts": SILENCE,
    "ixt / Judge: annotation Alerts": SILENCE,
}
"""Why an expression of a dashboard or a recording rule has no answer, by its place."""

MAYBE = {
    "ixt / Run: Invalid share and copied share A": "few documents are all done when first told of",
    "ixt / Run: Sent again, and cut A": "the tiny judge's answers are mostly valid at once",
    "ixt_annotation_retries_total": "the tiny judge's answers are mostly valid at once",
    # The operator serves other tests, too.
    "ixt / Fleet: annotation Alerts": "of the operator, which other tests disturb",
    "ixt / Operator: annotation Alerts": "of the operator, which other tests disturb",
    "ixt / Operator: Watches opened again A": "a watch breaks by chance",
    "ixt_operator_watch_restarts_total": "a watch breaks by chance",
    "ixt / Operator: Namespaces that cannot be served A": "other tests have namespaces that cannot be served",
    "ixt_operator_namespace_unserved": "other tests have namespaces that cannot be served",
    "ixt / Operator: Requests that failed A": "a request fails by chance",
    "ixt / Operator: Figures that were refused A": REFUSALS,
    "ixt_operator_figures_refused_total": REFUSALS,
    "ixt / Fleet: What waits, and for what A": IDLE,
    "ixt / Fleet: Runs that are not finished C": SHORT,
    "ixt / Fleet: Runs that are not finished E": IDLE,
    "ixt / Run: Progress of steps B": SHORT,
    "ixt / Run: Progress of steps E": SHORT,
    "ixt / Run: Step's time left A": SHORT,
    "ixt_run_eta_seconds": SHORT,
    "ixt_run_unsaved_cpu_seconds": SHORT,
    "ixt_step_eta_seconds": SHORT,
    "ixt_step_work_expected": SHORT,
    "ixt / Run: What it says A": IDLE,
    "ixt_run_message_info": IDLE,
}
"""Why another one, or a metric, is there by chance only."""

NOT_TOLD = {
    "ixt:failed_attempts:sum": FAULTLESS,
    "ixt_generation_alike_prompts_total": NO_ROUNDS,
    "ixt_generation_prompts_total": NO_ROUNDS,
    "ixt_generation_samples_total": NO_ROUNDS,
    "ixt_generation_tokens_total": NO_ROUNDS,
    "ixt_run_deadline_seconds": NO_DEADLINE,
    "ixt_run_gain": ONE_ARM,
    "ixt_run_gpu_seconds_total": "there is no GPU",
    "ixt_run_saved_flops_total": NOT_CACHED,
    "ixt_run_unsaved_gpu_seconds": "there is no GPU",
    "ixt_stage_eta_seconds": NO_ROUNDS,
    "ixt_stage_round": NO_ROUNDS,
    "ixt_stage_rounds": NO_ROUNDS,
    "ixt_step_deadline_seconds": NO_DEADLINE,
    "ixt_step_failed_attempts": FAULTLESS,
    "ixt_step_queue_position": NO_QUEUE,
    "ixt_training_mfu_ratio": PEAK,
    "ixt_training_router_loss": DENSE,
    "ixt_verification_answers_total": NO_ROUNDS,
    "ixt_verification_contradiction_ratio": NO_ROUNDS,
    "ixt_verification_quoting_ratio": NO_ROUNDS,
    "ixt_verification_right_ratio": NO_ROUNDS,
}
"""Why nobody tells a metric that is asked for."""

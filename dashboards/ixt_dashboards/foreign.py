"""Metrics that others export, of which dashboards and rules make use."""

VLLM_RUNNING = "vllm:num_requests_running"
VLLM_WAITING = "vllm:num_requests_waiting"
VLLM_WAITING_WHY = "vllm:num_requests_waiting_by_reason"
VLLM_KV_CACHE = "vllm:kv_cache_usage_perc"
"""0 to 1, whatever its name says."""
VLLM_PREEMPTIONS = "vllm:num_preemptions_total"
VLLM_PROMPT_TOKENS = "vllm:prompt_tokens_total"
VLLM_CACHED_TOKENS = "vllm:prompt_tokens_cached_total"
VLLM_GENERATED_TOKENS = "vllm:generation_tokens_total"
VLLM_PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
VLLM_PREFIX_HITS = "vllm:prefix_cache_hits_total"
VLLM_FINISHED = "vllm:request_success_total"
VLLM_FIRST_TOKEN = "vllm:time_to_first_token_seconds"
VLLM_BETWEEN_TOKENS = "vllm:inter_token_latency_seconds"
VLLM_LATENCY = "vllm:e2e_request_latency_seconds"
VLLM_QUEUE_TIME = "vllm:request_queue_time_seconds"
VLLM_PROMPT_LENGTH = "vllm:request_prompt_tokens"
VLLM_ANSWER_LENGTH = "vllm:request_generation_tokens"
VLLM_ITERATION_TOKENS = "vllm:iteration_tokens_total"
"""A histogram, whatever its name says."""

ALERTS = "ALERTS"
PROCESS_CPU = "process_cpu_seconds_total"
PROCESS_MEMORY = "process_resident_memory_bytes"
PROCESS_FILES = "process_open_fds"
PROCESS_START = "process_start_time_seconds"

HISTOGRAMS = frozenset(
    {
        *(VLLM_FIRST_TOKEN, VLLM_BETWEEN_TOKENS, VLLM_LATENCY, VLLM_QUEUE_TIME, VLLM_PROMPT_LENGTH),
        *(VLLM_ANSWER_LENGTH, VLLM_ITERATION_TOKENS),
    }
)
NAMES = frozenset(value for name, value in globals().items() if name.isupper() and isinstance(value, str))

JUDGE_RUN = "run"
"""The label that scraping gives to a judge's series, of the pod's label ixt.dev/run."""

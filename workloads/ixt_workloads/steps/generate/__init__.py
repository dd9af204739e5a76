"""Generate: a policy's answers to prompts, laid out as documents."""

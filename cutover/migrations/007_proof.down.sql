drop table if exists cutover.canary, cutover.sweep_bucket, cutover.divergence;

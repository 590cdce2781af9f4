"""The operators' runbooks, as Markdown: what `cutover procedure` shows and every task run names (architecture §8)."""

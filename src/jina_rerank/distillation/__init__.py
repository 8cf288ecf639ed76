"""Knowledge distillation: small rerankers that learn from larger ones. Needs the extra `distill`.

Arrows point one way: `run` uses everything else; `recipe` says what there is to choose; `objective`
and `healing` are what a `trainer` can learn; `prepared` keeps what `mining` and `teachers` give.
"""

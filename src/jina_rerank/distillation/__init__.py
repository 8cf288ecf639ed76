"""Knowledge distillation: small rerankers that learn from larger ones. Needs the extra `distill`.

Arrows point one way: `run` uses everything else; `recipe` says what there is to choose, which
`checks` looks over, and `models` loads what it names; `objective` and `healing` are what a
`trainer` can learn; `prepared` keeps what `mining` and `teachers` give.
"""

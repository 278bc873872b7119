"""The rules: what operators do to channels, one file a family.

A rule is a function `rule(context, node, args, kwargs)` that gets the node's arguments as `LabeledTensor`
(for tensors) or plain values and returns the node's value. It acts through the context
(`compress.graph.rule_context`) and serves both passes. Which operator follows which rule is a column of
`compress.graph.operators`. Operators
that only move data need no rule of their own: they are run on the labels.
"""

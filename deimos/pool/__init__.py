"""The next batch from a pool and a model of one's own (`deimos.select_batch`).

select_batch   what to label next: any model, any pool, any posterior
batches        what a pool is
batch_inputs   which part of a batch is the model's input
batch_points   points as a model is called with them
reading        a pool read once, and that it is the same when asked again
answers        what a model returned, as predictions
posteriors     J predictions of every point: by dropout, by an ensemble, by a function; checked
model_calls    a model's call: where its weights are, its errors in a sentence
trunk_and_head what runs once a point, and what once a mask
shared_masks   a model with dropout under J masks, the same for all points (§3.2)
dropout_calls  torch's dropout functions, met where they are called
watching       where a model drops, along which axis, and what else is random
observing      a model at work with nothing dropped
for_baal, for_skactiveml
               the same for users of these libraries, which nothing else here needs
"""

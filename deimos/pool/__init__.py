"""The next batch from a pool and a model of one's own (`deimos.select_batch`).

select_batch   what to label next: any model, any pool, any posterior
batches        what a pool is, and which part of it is the model's input
answers        what a model returned, as predictions
posteriors     J predictions of every point: by dropout, by an ensemble, by a function; checked
shared_masks   a model with dropout under J masks, the same for all points (§3.2)
dropout_calls  torch's dropout functions, met where they are called
watching       what a model does when it is called: where it drops, what is random
for_baal, for_skactiveml
               the same for users of these libraries, which nothing else here needs
"""

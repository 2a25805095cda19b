"""The paper's networks, and how they are fitted and asked (§3.2, App. D, App. E).

    networks         a trunk of convolutions, and a head with dropout (App. D)
    mc_dropout       predictions under J masks shared by all points; batch diversity
    training         one fit from scratch, with Keras' optimisers and weight decay C/N
    fleet_training   the fits of a whole fleet in step
    fleet_trunks     the convolutions of a fleet in the forms that a GPU is fastest at
    tap_pooling      pooling of such convolutions in one pass

`training` is the plain form; the three after it give the same fits faster.
"""

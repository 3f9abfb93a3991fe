"""One of two ranks that train a linear layer with torch's DistributedDataParallel.

Settings: `rank`; `store`, a file for the rendezvous; `names` and `lengths` of all segments; `dimension` of
the features. The rank reports the loss and the gradient.
"""

from __future__ import annotations

import torch

import shmbridge
from shmbridge.torch import SprintLoss
from support.trainer import OPTIONS, SETTINGS, say

rank, dimension, all_names = SETTINGS["rank"], SETTINGS["dimension"], SETTINGS["names"]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{SETTINGS['store']}", rank=rank, world_size=2
)
torch.manual_seed(0)
network = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(dimension, 4))
names, lengths = all_names[rank::2], SETTINGS["lengths"][rank::2]
features = torch.zeros(max(lengths), len(names), dimension)
for b, (name, length) in enumerate(zip(names, lengths)):
    generator = torch.Generator().manual_seed(all_names.index(name))
    features[:length, b] = torch.randn(length, dimension, generator=generator)
with shmbridge.SprintInstancePool(**OPTIONS) as pool:
    criterion = SprintLoss(pool)
    for _ in range(2):
        network.zero_grad()
        loss = criterion(network(features).log_softmax(-1), lengths, names)
        loss.backward()
torch.distributed.destroy_process_group()
say([loss.item(), network.module.weight.grad.tolist()])

"""Muster's speed beside its peers', measured in one run on one machine.

The problem: a figure means something only beside another one that was taken on the same machine, at the same time, for
the same work. So everything is measured again in every run, in turns, and each figure is printed with its ratio to a
peer's. A benchmark never fails because something is slow; it fails only where outputs are wrong.

How a run goes:

- `__main__` (the *driver*) makes a virtual environment for each peer (`environments`), plans the jobs (`plan`: pure),
  and runs them one at a time, in rounds, so that what disturbs the machine for a while disturbs everybody. Before each
  job a calibration loop (`machine`) shows how much of the machine was really there.
- Each job is one process of its own, the *worker* (`python -m muster_bench.worker SYSTEM/VARIANT WORKLOAD SIZE`): it
  starts one system, warms it up, runs one workload a few times, checks the outputs, stops the system, and prints one
  line of JSON (`samples`). Run by hand it does the same.
- `meter` counts, around each measured part, the CPU seconds and the peak memory (proportional set size) of ALL
  processes of the system: the worker's whole process tree, and the containers' cgroup. A process of its own
  (`sampler`) watches the memory; it and the reader of the client's stdout (`stdout_reader`) are not counted. The
  container engine's own share is counted apart, because it serves the whole machine.
- `figures` (pure) makes medians and ratios of the samples; `tables`, `plots` and `document` (pure) make the page.

`systems/` has one module for each system, behind the one small interface of `systems.base`; `workloads/` one for each
workload. The worker imports this package from a folder called site-packages: the harness is then an installed package
to everybody, and not a module of the user's program that travels to the workers. What a workload runs is defined in
`functions` and moved to `__main__`, as if the user's script had defined it.

A *variant* says how a system is used: `single` hands it one input a task, `chunked` does by hand what its experienced
users do. Where `single` would take minutes a smaller count runs, and the time is *projected* to the whole.
"""

"""A stand-in for RASR's ``nn-trainer``: same options, same calls to Python, CTC on a Bliss corpus.

RASR is hard to build. With this executable, the child side of the bridge runs, and can be tested and
measured, without RASR: it reads the same options, imports the same modules, makes the same calls with
arguments of the same types, and fails in the same ways. It needs only the standard library and numpy.

    python -m shmbridge.refsprint --config=FILE --*.option=value ...

shmbridge.bliss reads corpora and lexica. The files here, from the inside to the outside:

    console.py          output, and the ways in which the process ends
    configuration.py    options from the command line and from files
    orthography.py      an orthography as a lattice of pronunciations
    automaton.py        the CTC automaton of such a lattice
    ctc.py              forward-backward over the automaton
    criterion.py        loss and error signal for posteriors
    lattice_arcs.py     the arcs of a word lattice with their pronunciations; those of the reference
    lattice_alignment.py    Viterbi alignments of all arcs at once
    lattice_criterion.py    MMI and minimum error
    matrices.py         conversion of matrices between Sprint and Python
    python_calls.py     calls into the user's module
    segment_order.py    the segments in the order of visiting; getSegmentList
    features.py         features of a segment from a file, or zeros
    callback.py         the commands that Python can send to Sprint
    python_control.py   PythonControl: init, run_control_loop, process_segment, exit
    network.py          a chain of layers with SprintNnPythonLayer in it
    trainer.py          FeedForwardTrainer
    recognition.py      scores of a corpus, as a recognizer requests them from PythonFeatureScorer
    program.py          a program, from its start to its exit code
    lattice_processor.py    the executable ref-lattice-processor
    __main__.py         the executable refsprint
"""

CALLBACK_VERSION = 5
"""RASR's number for this version of the interface; init and the callback report it."""

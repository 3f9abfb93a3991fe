"""A stand-in for RASR's ``nn-trainer``: same options, same Python calls, CTC on a Bliss corpus and lexicon.

RASR is hard to build. This executable lets the child side of the bridge be driven, tested and measured
without it: it reads the same options, imports the same modules, makes the same calls with arguments of
the same types, and fails in the same ways. It needs the standard library and numpy only.

    python -m shmbridge.refsprint --config=FILE --*.option=value ...

The files, from the inside to the outside:

    console.py          output, and the ways in which the process ends
    configuration.py    options from the command line and from files
    xml_reader.py       expat with line numbers; entity declarations are refused
    corpus.py           Bliss corpus: segments
    lexicon.py          Bliss lexicon: phonemes, lemmas, pronunciations
    orthography.py      an orthography as a lattice of pronunciations
    automaton.py        the CTC automaton of such a lattice
    ctc.py              forward-backward over the automaton
    criterion.py        loss and error signal for posteriors
    matrices.py         numpy arrays across the border, as Sprint converts them
    python_calls.py     calls into the user's module, and what happens when they fail
    segment_order.py    the segments in the order of visiting; getSegmentList
    features.py         features of a segment from a side file, or zeros
    callback.py         the commands that Python may ask of Sprint
    python_control.py   PythonControl: init, run_control_loop, process_segment, exit
    network.py          a chain of layers with SprintNnPythonLayer in it
    trainer.py          FeedForwardTrainer
    feature_scorer.py   PythonFeatureScorer
    recognition.py      a recognition without a search: scores of a corpus
    __main__.py         the executable
"""

CALLBACK_VERSION = 5
"""The version of the interface that is modelled: RASR's number, what init and the callback tell."""

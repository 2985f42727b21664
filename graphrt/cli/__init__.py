"""The command line: ``graphrt VERB``. Each verb is a module of `graphrt.cli.verbs`, imported when it is used."""

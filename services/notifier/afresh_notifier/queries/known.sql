SELECT k.kind, k.name, k.state FROM afresh.known AS k

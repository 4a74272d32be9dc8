"""Ideas that config alone cannot express, and the catalogue of all of them.

``python -m interventions`` lists the overlays in ``conf/intervention`` with their sources.
"""

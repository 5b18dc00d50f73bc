"""The arithmetic of a culprit search: what to believe, and what to ask next.

Candidates stand in one order; *prefix j* has the first ``j`` of them bad. Under every monotone
crash rule (one culprit, several that each suffice, several that only crash together) there is a
threshold ``k``: prefix ``j`` can crash exactly when ``j >= k``. A crash is proof of that, up to
the noise; a survival is only evidence, the weaker the rarer the crash. numpy is loaded when the
first posterior is computed.
"""

"""Waits for the message "approval", which is "yes" or something else in JSON, but not for ever: two seconds, or as many as the
input says: {"timeout": 86400}.
"""

import durun

seconds = (durun.input() or {}).get("timeout", 2)
try:
    answer = durun.recv("approval").result(seconds)
    print("approved" if answer == "yes" else "declined")
except TimeoutError:
    print("timed out")
except ValueError:  # it is not JSON
    print("declined")

"""Sends an e-mail to every address of a list, in parallel, and stores the results. Its input: {"opid": "op-1", "emails": ["…"]}.

How fast the e-mails go out, and how often each is tried, is up to whoever runs the handler send_email.
"""

import durun


async def notify_users(opid, emails):
    results = await durun.gather(*(durun.call("send_email", to=e) for e in emails))
    await durun.call("store_results", opid=opid, results=results)
    print("stored", len(results))


job = durun.input()
durun.run(notify_users(job["opid"], job["emails"]))

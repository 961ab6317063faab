from tests.faults.trial import *
from tests.conftest import *
from tests.faults.test_faults import run_site
import time
def test_dbg(own_redis, run_site, start_site):
  for s in (SETTINGS,{}, {"WSREDIS":{"PING_INTERVAL":2}}):
    site = start_site("runwsserver",redis_url=own_redis.url,settings=s)
    for i in range(4):
        t=time.time()
        with site.connect(f"chat/{i}?subscribe-broadcast", subprotocols=["wsredis.v1"]) as ws:
          print(i, time.time()-t, ws.recv(3), time.time()-t)
          t=time.time()
        print(time.time()-t)
    print(site.output)
    site.stop()

"""The chart's Grafana dashboards, as they are written down.

python -m tools.dashboards            write helm/shorthaul/files/dashboards/*.json
python -m tools.dashboards --check    exit status 1 if a file is not what would be written
"""

from tools.dashboards.grafana import Dashboard
from tools.dashboards.index import INDEX
from tools.dashboards.overview import OVERVIEW
from tools.dashboards.proof import PROOF
from tools.dashboards.pulls import PULLS
from tools.dashboards.slo import SLO
from tools.dashboards.topology import TOPOLOGY

DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, PULLS, TOPOLOGY, PROOF, INDEX, SLO)

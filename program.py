import alignflow as af
reveal_type(af.load)
reveal_type(af.Sum)
from alignflow.steering import steer
reveal_type(steer)
from alignflow.steering.build import steer as s2
reveal_type(s2)
from alignflow.flow_map import FlowMap
reveal_type(FlowMap)

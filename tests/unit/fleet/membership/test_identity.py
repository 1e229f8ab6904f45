from nexus.fleet.membership.identity import backend_id


def test_an_id_is_the_same_in_every_run():
    assert backend_id("gpu-1") == "13b9546292415201be0713a0d185cec4"

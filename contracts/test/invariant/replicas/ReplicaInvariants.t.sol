// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReplicaExits} from "./ReplicaExits.sol";

/// What holds of replicated jobs after any sequence of calls, and that everybody gets out of any state.
contract ReplicaInvariantsTest is ReplicaExits {
    function setUp() public override {
        super.setUp();
        _start(40);
        handler.post(1);
        handler.post(2);
        targetContract(address(handler));
    }

    function invariant_theBooksAgree() public view {
        handler.assertAgreement(false);
    }

    function afterInvariant() public {
        handler.assertAgreement(true);
        _everybodyGetsOut();
    }
}
